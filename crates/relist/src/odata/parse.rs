//! From tokens to an expression: one loop driven by how tightly operators bind.
//!
//! Precedence is that of OData 4.01 URL Conventions 5.1.1.17: `has` and `in`, then `-` and `not`,
//! then products, sums, `gt ge lt le`, `eq ne`, `and`, `or`; equals associate to the left. Nesting
//! is limited to [`MAX_DEPTH`], so no text can exhaust the stack.

use super::ast::{
    ArithOp, CompareOp, Expr, ExprKind, Lambda, Literal, Name, OrderItem, Path, Quantifier, Select,
    Span, binding,
};
use super::lexer::{MAX_LEN, Token, TokenKind, tokens};
use super::text::{OptionText, did_you_mean, nearest};
use crate::error::QueryError;

/// How deeply an expression may be nested.
pub const MAX_DEPTH: usize = 64;

/// Reads the text of a `$filter`.
///
/// The text is not percent-encoded; at most 64 KiB of it and [`MAX_DEPTH`] levels are read.
pub fn parse_filter(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser::new("$filter", text)?;
    let node = parser.expr(0)?;
    parser.end("and, or")?;
    Ok(node.expr)
}

/// Reads the text of an `$orderby`: expressions with `asc` or `desc`, joined by commas.
pub fn parse_orderby(text: &str) -> Result<Vec<OrderItem>, QueryError> {
    let mut parser = Parser::new("$orderby", text)?;
    let items = parser.order_items()?;
    parser.end("asc, desc or a comma")?;
    Ok(items)
}

/// Reads the text of a `$select`: `*`, or names joined by commas.
pub fn parse_select(text: &str) -> Result<Select, QueryError> {
    let mut parser = Parser::new("$select", text)?;
    let mut names = Vec::new();
    let mut all = false;
    loop {
        if parser.eat(&TokenKind::Star) {
            all = true;
        } else {
            names.push(parser.name("a field's name or *")?);
        }
        if parser.peek().kind == TokenKind::Slash {
            let span = parser.peek().span;
            let message = "$select takes whole fields, not parts of them";
            return Err(parser.option.error(span, message));
        }
        if !parser.eat(&TokenKind::Comma) {
            parser.end("a comma")?;
            return Ok(if all {
                Select::All
            } else {
                Select::Fields(names)
            });
        }
    }
}

/// An expression and the height of its tree.
pub(super) struct Node {
    pub(super) expr: Expr,
    height: usize,
}

enum Infix {
    And,
    Or,
    Compare(CompareOp),
    Arith(ArithOp),
    Has,
    In,
}

/// The operators that stand between operands.
pub(super) const INFIX_NAMES: [&str; 16] = [
    "eq", "ne", "gt", "ge", "lt", "le", "and", "or", "in", "has", "add", "sub", "mul", "div",
    "divby", "mod",
];

impl Infix {
    fn named(word: &str) -> Option<Infix> {
        Some(match word.to_ascii_lowercase().as_str() {
            "and" => Infix::And,
            "or" => Infix::Or,
            "has" => Infix::Has,
            "in" => Infix::In,
            "eq" => Infix::Compare(CompareOp::Eq),
            "ne" => Infix::Compare(CompareOp::Ne),
            "gt" => Infix::Compare(CompareOp::Gt),
            "ge" => Infix::Compare(CompareOp::Ge),
            "lt" => Infix::Compare(CompareOp::Lt),
            "le" => Infix::Compare(CompareOp::Le),
            "add" => Infix::Arith(ArithOp::Add),
            "sub" => Infix::Arith(ArithOp::Sub),
            "mul" => Infix::Arith(ArithOp::Mul),
            "div" => Infix::Arith(ArithOp::Div),
            "divby" => Infix::Arith(ArithOp::DivBy),
            "mod" => Infix::Arith(ArithOp::Mod),
            _ => return None,
        })
    }

    fn binding(&self) -> u8 {
        match self {
            Infix::Or => binding::OR,
            Infix::And => binding::AND,
            Infix::Compare(op) => op.binding(),
            Infix::Arith(op) => op.binding(),
            Infix::Has | Infix::In => binding::MEMBERSHIP,
        }
    }
}

pub(super) struct Parser<'t> {
    pub(super) option: OptionText<'t>,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token<'t>>>,
    end: Token<'t>,
    depth: usize,
}

impl<'t> Parser<'t> {
    pub(super) fn new(name: &'static str, text: &'t str) -> Result<Self, QueryError> {
        let option = OptionText { name, text };
        if text.len() > MAX_LEN {
            // The text itself would only bury the message.
            let message = format!(
                "{name} is {} bytes long, and {MAX_LEN} is the most that is read",
                text.len()
            );
            let hint = "split the query, or list fewer values".to_owned();
            let short = OptionText { name, text: "" };
            return Err(short.hinted(Span::default(), message, Some(hint)));
        }
        let end = Token {
            kind: TokenKind::End,
            span: Span {
                offset: text.len(),
                len: 0,
            },
        };
        Ok(Parser {
            option,
            tokens: tokens(option)?.into_iter().peekable(),
            end,
            depth: 0,
        })
    }

    pub(super) fn peek(&mut self) -> &Token<'t> {
        self.tokens.peek().unwrap_or(&self.end)
    }

    pub(super) fn advance(&mut self) -> Token<'t> {
        self.tokens.next().unwrap_or_else(|| self.end.clone())
    }

    pub(super) fn eat(&mut self, kind: &TokenKind<'_>) -> bool {
        let found = self.peek().kind == *kind;
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(
        &mut self,
        kind: &TokenKind<'_>,
        expected: &str,
    ) -> Result<Span, QueryError> {
        if self.peek().kind == *kind {
            return Ok(self.advance().span);
        }
        Err(self.unexpected(expected))
    }

    /// The error for whatever comes next.
    pub(super) fn unexpected(&mut self, expected: &str) -> QueryError {
        let span = self.peek().span;
        if self.peek().kind == TokenKind::End {
            let message = if self.option.text.trim().is_empty() {
                format!("{} is empty: expected {expected}", self.option.name)
            } else {
                format!("expected {expected} at the end")
            };
            return self.option.error(span, message);
        }
        let found = self.option.at(span);
        let message = format!("expected {expected}, found {found}");
        self.option.error(span, message)
    }

    /// Checks that nothing is left; what could have followed is any operator or `also`.
    fn end(&mut self, also: &str) -> Result<(), QueryError> {
        let token = self.peek().clone();
        let expected = format!("an operator, {also} or the end");
        match token.kind {
            TokenKind::End => Ok(()),
            TokenKind::Ident(word) => {
                let known = INFIX_NAMES.iter().copied();
                let mut error = self.unexpected(&expected);
                error.hint = did_you_mean(word, known);
                Err(error)
            }
            TokenKind::Close => {
                let message = "this ) closes nothing";
                Err(self.option.error(token.span, message))
            }
            _ => Err(self.unexpected(&expected)),
        }
    }

    pub(super) fn name(&mut self, expected: &str) -> Result<Name, QueryError> {
        match self.peek().kind {
            TokenKind::Ident(text) => {
                let span = self.advance().span;
                Ok(Name {
                    text: text.to_owned(),
                    span,
                })
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn node(&self, kind: ExprKind, span: Span, below: usize) -> Result<Node, QueryError> {
        let height = below + 1;
        if height > MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        Ok(Node {
            expr: Expr { kind, span },
            height,
        })
    }

    fn too_deep(&self, span: Span) -> QueryError {
        let message = format!("nested more than {MAX_DEPTH} levels deep");
        let hint = "a long list of alternatives is written X in (1,2,3)".to_owned();
        self.option.hinted(span, message, Some(hint))
    }

    /// Runs `inner` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        span: Span,
        inner: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        if self.depth == MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// An expression of operators that bind at least as tightly as `least`.
    pub(super) fn expr(&mut self, least: u8) -> Result<Node, QueryError> {
        let mut left = self.prefix()?;
        loop {
            let TokenKind::Ident(word) = self.peek().kind else {
                return Ok(left);
            };
            let Some(op) = Infix::named(word).filter(|op| op.binding() >= least) else {
                return Ok(left);
            };
            self.advance();
            left = self.infix(left, &op, word)?;
        }
    }

    /// Expressions with `asc` or `desc`, joined by commas.
    pub(super) fn order_items(&mut self) -> Result<Vec<OrderItem>, QueryError> {
        let mut items = Vec::new();
        loop {
            let expr = self.expr(0)?.expr;
            let descending = match self.peek().kind {
                TokenKind::Ident(word) if word.eq_ignore_ascii_case("desc") => Some(true),
                TokenKind::Ident(word) if word.eq_ignore_ascii_case("asc") => Some(false),
                _ => None,
            };
            if descending.is_some() {
                self.advance();
            }
            items.push(OrderItem {
                expr,
                descending: descending.unwrap_or(false),
            });
            if !self.eat(&TokenKind::Comma) {
                return Ok(items);
            }
        }
    }

    fn infix(&mut self, left: Node, op: &Infix, word: &str) -> Result<Node, QueryError> {
        if matches!(op, Infix::And | Infix::Or) {
            return self.chain(left, op, word);
        }
        let right = match op {
            Infix::In => self.set()?,
            _ => self.expr(op.binding() + 1)?,
        };
        let span = left.expr.span.to(right.expr.span);
        let below = left.height.max(right.height);
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        let kind = match op {
            Infix::Compare(op) => ExprKind::Compare {
                op: *op,
                left,
                right,
            },
            Infix::Arith(op) => ExprKind::Arith {
                op: *op,
                left,
                right,
            },
            Infix::Has => ExprKind::Has { left, right },
            _ => ExprKind::In {
                value: left,
                set: right,
            },
        };
        self.node(kind, span, below)
    }

    /// `a and b and ..`: one node however many operands, so a long filter is not a deep one.
    fn chain(&mut self, left: Node, op: &Infix, word: &str) -> Result<Node, QueryError> {
        let mut span = left.expr.span;
        let mut below = left.height;
        let mut operands = vec![left.expr];
        loop {
            let next = self.expr(op.binding() + 1)?;
            span = span.to(next.expr.span);
            below = below.max(next.height);
            operands.push(next.expr);
            match self.peek().kind {
                TokenKind::Ident(again) if again.eq_ignore_ascii_case(word) => {
                    self.advance();
                }
                _ => break,
            }
        }
        let kind = match op {
            Infix::And => ExprKind::And(operands),
            _ => ExprKind::Or(operands),
        };
        self.node(kind, span, below)
    }

    /// What stands to the right of `in`: a list in parentheses or a collection.
    fn set(&mut self) -> Result<Node, QueryError> {
        if self.peek().kind != TokenKind::Open {
            return self.prefix();
        }
        let start = self.advance().span;
        let (items, below, end) = self.nested(start, Self::arguments)?;
        self.node(ExprKind::List(items), start.to(end), below)
    }

    /// Expressions joined by commas up to `)`, the height of the highest, and the place of `)`.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize, Span), QueryError> {
        let mut items = Vec::new();
        let mut below = 0;
        if self.peek().kind == TokenKind::Close {
            return Ok((items, below, self.advance().span));
        }
        loop {
            let node = self.expr(0)?;
            below = below.max(node.height);
            items.push(node.expr);
            if !self.eat(&TokenKind::Comma) {
                let end = self.expect(&TokenKind::Close, "a comma or )")?;
                return Ok((items, below, end));
            }
        }
    }

    fn prefix(&mut self) -> Result<Node, QueryError> {
        let token = self.peek().clone();
        match token.kind {
            TokenKind::Literal(literal) => {
                self.advance();
                self.node(ExprKind::Literal(literal), token.span, 0)
            }
            TokenKind::Minus => {
                self.advance();
                let operand = self.nested(token.span, |p| p.expr(binding::UNARY))?;
                let span = token.span.to(operand.expr.span);
                let kind = ExprKind::Neg(Box::new(operand.expr));
                self.node(kind, span, operand.height)
            }
            TokenKind::Open => {
                self.advance();
                let mut inner = self.nested(token.span, |p| p.expr(0))?;
                if self.peek().kind == TokenKind::Comma {
                    let span = self.peek().span;
                    let message = "a list stands only to the right of in";
                    return Err(self.option.error(span, message));
                }
                let end = self.expect(&TokenKind::Close, ")")?;
                inner.expr.span = token.span.to(end);
                Ok(inner)
            }
            TokenKind::Ident(word) => {
                self.advance();
                self.word(word, token.span)
            }
            _ => Err(self.unexpected("a field, a value or (")),
        }
    }

    /// A name where an operand is expected: `not`, a constant, a call or a path.
    fn word(&mut self, word: &str, span: Span) -> Result<Node, QueryError> {
        if self.peek().kind != TokenKind::Slash {
            let constant = match word.to_ascii_lowercase().as_str() {
                "true" => Some(Literal::Bool(true)),
                "false" => Some(Literal::Bool(false)),
                "null" => Some(Literal::Null),
                "not" => {
                    let operand = self.nested(span, |p| p.expr(binding::UNARY))?;
                    let whole = span.to(operand.expr.span);
                    let kind = ExprKind::Not(Box::new(operand.expr));
                    return self.node(kind, whole, operand.height);
                }
                _ => None,
            };
            if let Some(constant) = constant {
                return self.node(ExprKind::Literal(constant), span, 0);
            }
        }
        let name = Name {
            text: word.to_owned(),
            span,
        };
        if self.peek().kind == TokenKind::Open {
            return self.call(name);
        }
        self.path(name)
    }

    fn call(&mut self, name: Name) -> Result<Node, QueryError> {
        let lower = name.text.to_ascii_lowercase();
        if matches!(lower.as_str(), "cast" | "isof") {
            let message = format!("{lower}() is not supported: a field has one type here");
            let hint = "compare the field itself".to_owned();
            return Err(self.option.hinted(name.span, message, Some(hint)));
        }
        let open = self.advance().span;
        let (args, below, end) = self.nested(open, Self::arguments)?;
        let span = name.span.to(end);
        self.node(ExprKind::Call { name, args }, span, below)
    }

    fn path(&mut self, first: Name) -> Result<Node, QueryError> {
        let mut span = first.span;
        let mut path = Path { names: vec![first] };
        self.unqualified(&path)?;
        while self.eat(&TokenKind::Slash) {
            let name = self.name("a name after /")?;
            span = span.to(name.span);
            if name.text == "$count" {
                return self.node(ExprKind::Count(path), span, 0);
            }
            if self.peek().kind == TokenKind::Open {
                let quantifier = match name.text.to_ascii_lowercase().as_str() {
                    "any" => Quantifier::Any,
                    "all" => Quantifier::All,
                    other => {
                        let message = format!("{} is not called on a path", name.text);
                        let hint = nearest(other, ["any", "all"]).map_or_else(
                            || format!("write {}(..)", name.text),
                            |known| format!("did you mean {known}?"),
                        );
                        return Err(self.option.hinted(name.span, message, Some(hint)));
                    }
                };
                return self.lambda(path, quantifier, span);
            }
            path.names.push(name);
            self.unqualified(&path)?;
        }
        self.node(ExprKind::Path(path), span, 0)
    }

    fn unqualified(&self, path: &Path) -> Result<(), QueryError> {
        match path.names.last() {
            Some(name) if name.text.contains('.') => {
                let message = format!("{} is not the name of a field", name.text);
                let hint = "names have no dots; an enumeration's member is written Type'Member'";
                let hint = Some(hint.to_owned());
                Err(self.option.hinted(name.span, message, hint))
            }
            _ => Ok(()),
        }
    }

    fn lambda(
        &mut self,
        collection: Path,
        quantifier: Quantifier,
        start: Span,
    ) -> Result<Node, QueryError> {
        let open = self.advance().span;
        if quantifier == Quantifier::Any && self.peek().kind == TokenKind::Close {
            let span = start.to(self.advance().span);
            let kind = ExprKind::Lambda {
                collection,
                quantifier,
                body: None,
            };
            return self.node(kind, span, 0);
        }
        let variable = self.name("a variable and a colon, as in any(x:x eq 1)")?;
        self.expect(&TokenKind::Colon, ": after the variable")?;
        let condition = self.nested(open, |p| p.expr(0))?;
        let span = start.to(self.expect(&TokenKind::Close, ")")?);
        let kind = ExprKind::Lambda {
            collection,
            quantifier,
            body: Some(Lambda {
                variable,
                condition: Box::new(condition.expr),
            }),
        };
        self.node(kind, span, condition.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses and prints with every operator in parentheses.
    fn shape(text: &str) -> String {
        fn full(expr: &Expr) -> String {
            let join = |items: &[Expr], by: &str| {
                let items: Vec<_> = items.iter().map(full).collect();
                format!("({})", items.join(by))
            };
            match &expr.kind {
                ExprKind::And(items) => join(items, " and "),
                ExprKind::Or(items) => join(items, " or "),
                ExprKind::Not(x) => format!("(not {})", full(x)),
                ExprKind::Neg(x) => format!("(-{})", full(x)),
                ExprKind::Compare { op, left, right } => {
                    format!("({} {} {})", full(left), op.name(), full(right))
                }
                ExprKind::Arith { op, left, right } => {
                    format!("({} {} {})", full(left), op.name(), full(right))
                }
                ExprKind::In { value, set } => format!("({} in {set})", full(value)),
                ExprKind::Has { left, right } => format!("({} has {})", full(left), full(right)),
                _ => expr.to_string(),
            }
        }
        full(&parse_filter(text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    #[test]
    fn precedence_is_odatas() {
        for (text, expected) in [
            ("a and b or c", "((a and b) or c)"),
            ("a or b and c", "(a or (b and c))"),
            ("a and b and c", "(a and b and c)"),
            ("(a and b) and c", "((a and b) and c)"),
            ("not a and b", "((not a) and b)"),
            ("not (a eq 1)", "(not (a eq 1))"),
            ("not a in (1)", "(not (a in (1)))"),
            ("a add b mul c eq d", "((a add (b mul c)) eq d)"),
            ("a sub b sub c", "((a sub b) sub c)"),
            ("a lt b eq c gt d", "((a lt b) eq (c gt d))"),
            ("-a mul -1", "((-a) mul -1)"),
            ("- 1", "(-1)"),
            ("a has T'x' eq true", "((a has T'x') eq true)"),
            ("a eq -5 or b EQ null", "((a eq -5) or (b eq null))"),
            ("((a))", "a"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        for text in [
            "Media/any(m:m/MediaCategory eq 'Photo' and m/Order lt 3)",
            "Media/any()",
            "Media/$count gt 3",
            "$it/City in ('A','B')",
            "-(5) eq -(-x)",
            "(a or b) and not (c and d)",
            "not not a",
            "a sub (b sub c) eq 1",
            "geo.distance(L,geography'POINT(1 2)') lt 5",
            "Tags/all(t:t ne 'x')",
        ] {
            let expr = parse_filter(text).unwrap();
            assert_eq!(expr.to_string(), text);
            assert_eq!(parse_filter(&expr.to_string()).unwrap(), expr);
        }
    }

    #[test]
    fn depth_and_length_are_limited() {
        let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(parse_filter(&deep(MAX_DEPTH)).is_ok());
        let error = parse_filter(&deep(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error.offset, MAX_DEPTH);
        for text in [
            "not ".repeat(5_000) + "a",
            "-".repeat(5_000) + "a",
            "a".to_owned() + &" add a".repeat(5_000),
            "length(".repeat(5_000),
            "x/any(x:".repeat(5_000),
        ] {
            let error = parse_filter(&text).unwrap_err();
            assert!(error.message.contains("64 levels"), "{error}");
        }
        let long = format!("a eq 1{}", " or a eq 1".repeat(6_000));
        assert!(parse_filter(&long).is_ok());
        let error = parse_filter(&"a".repeat(100_000)).unwrap_err();
        assert!(error.message.contains("100000 bytes"), "{error}");
    }

    #[test]
    fn faults_name_the_place() {
        for (text, offset, message) in [
            ("", 0, "$filter is empty: expected a field, a value or ("),
            ("a eq", 4, "expected a field, a value or ( at the end"),
            ("a eq 1)", 6, "this ) closes nothing"),
            ("(a eq 1", 7, "expected ) at the end"),
            ("a eq (1,2)", 7, "a list stands only to the right of in"),
            ("a in (1 2)", 8, "expected a comma or ), found 2"),
            ("cast(a,Edm.Int32) eq 1", 0, "cast() is not supported"),
            ("Media/all()", 10, "expected a variable and a colon"),
            ("Media/some(x:x)", 6, "some is not called on a path"),
            ("a/", 2, "expected a name after / at the end"),
        ] {
            let error = parse_filter(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.message.starts_with(message), "{text}: {error}");
        }
        let error = parse_filter("a eqq 1").unwrap_err();
        assert_eq!((error.offset, error.len), (2, 3));
        assert_eq!(error.hint.as_deref(), Some("did you mean eq?"));
    }

    #[test]
    fn orderby_and_select() {
        let keys = parse_orderby("ListPrice desc, year(CloseDate) asc,City").unwrap();
        let text: Vec<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["ListPrice desc", "year(CloseDate)", "City"]);
        assert_eq!(parse_orderby("a descending").unwrap_err().offset, 2);
        assert_eq!(parse_select("*").unwrap(), Select::All);
        let fields = Select::Fields(vec!["A".into(), "B".into()]);
        assert_eq!(parse_select("A, B").unwrap(), fields);
        assert_eq!(parse_select("A,,B").unwrap_err().offset, 2);
        assert_eq!(parse_select("A/B").unwrap_err().offset, 1);
    }
}
