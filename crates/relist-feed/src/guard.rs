//! Which media URLs may be asked, and which addresses may be connected to.
//!
//! A MediaURL comes from outside. Without these rules it could have this machine ask its own
//! services, or those of its network, and store what they answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::url::{Host, Url};

/// What may be asked for media.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaGuard {
    /// The only hosts, if there are any: `media.example.com`, `.example.com` for all below it.
    pub hosts: Vec<String>,
    /// Whether this machine itself may be asked, by http too. For tests.
    pub allow_loopback: bool,
}

impl MediaGuard {
    /// Reads a URL, and says why it may not be asked.
    pub(crate) fn url(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|e| format!("its URL does not read: {e}"))?;
        let host = url.host().ok_or("its URL has no host")?;
        let loopback = self.allow_loopback && is_loopback(&host);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            other => return Err(format!("its URL is {other}, not https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("its URL holds a user name".to_owned());
        }
        if !self.hosts.is_empty() && !loopback && !matches(&self.hosts, &host.to_string()) {
            return Err(format!("its host {host} is none of the allowed ones"));
        }
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        match address {
            Some(address) if !self.allows(address) => Err(refused(address)),
            _ => Ok(url),
        }
    }

    /// Whether an address may be connected to.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.allow_loopback && address.is_loopback()
    }
}

pub(crate) fn refused(address: IpAddr) -> String {
    format!("its host is {address}, which is not a public address")
}

/// Whether a host is one of a list.
pub(crate) fn matches(hosts: &[String], host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    hosts.iter().any(|allowed| {
        let allowed = allowed.to_ascii_lowercase();
        if allowed.starts_with('.') {
            host.ends_with(&allowed)
        } else {
            host == allowed
        }
    })
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether an address is one of the open internet (IANA special-purpose registries).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared by carriers; protocol assignments; 6to4 relays; benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    // Global unicast is 2000::/3; all else is special or not given out.
    if first & 0xe000 == 0x2000 {
        return match (first, second) {
            // Teredo and other protocol assignments; documentation; 6to4, which holds an IPv4.
            (0x2001, second) if second < 0x200 || second == 0xdb8 => false,
            (0x2002, _) => {
                let [_, _, a, b, c, d, ..] = address.octets();
                is_public_v4(Ipv4Addr::new(a, b, c, d))
            }
            (0x3fff, second) => second >= 0x1000,
            _ => true,
        };
    }
    // NAT64 holds an IPv4. A mapped one (::ffff:0:0/96) is never what a name resolves to.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
        let bits = u32::from(high) << 16 | u32::from(low);
        return is_public_v4(Ipv4Addr::from_bits(bits));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_is_asked() {
        let guard = MediaGuard::default();
        for bad in [
            "file:///etc/passwd",
            "http://media.example.com/a.jpg",
            "ftp://media.example.com/a.jpg",
            "gopher://127.0.0.1:6379/_",
            "data:image/png;base64,AAAA",
            "javascript:alert(1)",
            "https://user:pw@media.example.com/a.jpg",
            "https://127.0.0.1/a",
            "https://127.1/a",
            "https://2130706433/a",
            "https://0x7f000001/a",
            "https://0177.0.0.1/a",
            "https://0.0.0.0/a",
            "https://10.0.0.1/a",
            "https://172.16.0.1/a",
            "https://172.31.255.255/a",
            "https://192.168.1.1/a",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/a",
            "https://192.0.0.1/a",
            "https://192.0.2.1/a",
            "https://198.18.0.1/a",
            "https://224.0.0.1/a",
            "https://240.0.0.1/a",
            "https://255.255.255.255/a",
            "https://[::1]/a",
            "https://[::]/a",
            "https://[::ffff:127.0.0.1]/a",
            "https://[::ffff:169.254.169.254]/a",
            "https://[::127.0.0.1]/a",
            "https://[64:ff9b::7f00:1]/a",
            "https://[2002:7f00:1::]/a",
            "https://[2001:0:1::1]/a",
            "https://[2001:db8::1]/a",
            "https://[fc00::1]/a",
            "https://[fd12::1]/a",
            "https://[fe80::1]/a",
            "https://[ff02::1]/a",
            "https://",
            "/a.jpg",
            "",
        ] {
            assert!(guard.url(bad).is_err(), "{bad}");
        }
        for good in [
            "https://media.example.com/a.jpg?sig=1",
            "https://8.8.8.8/a",
            "https://[2606:4700::1111]/a",
            "https://[64:ff9b::808:808]/a",
        ] {
            assert!(guard.url(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn loopback_must_be_allowed_and_is_no_more_than_that() {
        let guard = MediaGuard {
            allow_loopback: true,
            ..MediaGuard::default()
        };
        assert!(guard.url("http://127.0.0.1:8080/a").is_ok());
        assert!(guard.url("http://localhost/a").is_ok());
        assert!(guard.url("http://media.example.com/a").is_err());
        assert!(guard.url("http://10.0.0.1/a").is_err());
        assert!(guard.url("https://169.254.169.254/a").is_err());
    }

    #[test]
    fn a_list_of_hosts_is_all_there_is() {
        let guard = MediaGuard {
            hosts: vec!["media.example.com".into(), ".cdn.example".into()],
            ..MediaGuard::default()
        };
        assert!(guard.url("https://MEDIA.example.com/a").is_ok());
        assert!(guard.url("https://a.b.cdn.example/a").is_ok());
        assert!(guard.url("https://cdn.example/a").is_err());
        assert!(guard.url("https://evilcdn.example/a").is_err());
        assert!(
            guard
                .url("https://media.example.com.evil.example/a")
                .is_err()
        );
    }
}
