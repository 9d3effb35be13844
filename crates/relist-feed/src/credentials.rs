//! Credentials: what a user gives so that requests are authorised.

use std::fmt;

use crate::token::Token;

/// What authorises requests: a token, or what one is had for.
///
/// Both parts of a client's credentials are kept like tokens: from an environment variable or a
/// file that only its owner can read ([`Token::from_env_value`], [`Token::from_file`]), never
/// from the command line, and in no output.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A token that the provider issued; it is sent as it is.
    Token(Token),
    /// A client id and its secret, for which the profile's token endpoint gives a token.
    Client {
        /// The client id.
        id: Token,
        /// The client secret.
        secret: Token,
    },
}

impl Credentials {
    /// A client id and its secret.
    pub fn client(id: Token, secret: Token) -> Self {
        Credentials::Client { id, secret }
    }
}

impl From<Token> for Credentials {
    fn from(token: Token) -> Self {
        Credentials::Token(token)
    }
}

/// Says of what kind they are, and nothing of them.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Token(_) => "Credentials::Token([hidden])",
            Credentials::Client { .. } => "Credentials::Client([hidden])",
        })
    }
}
