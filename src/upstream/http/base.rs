//! The address of an upstream: an origin and a base path.

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::upstream::is_plain_path;

/// Origin and base path.
#[derive(Clone, Debug)]
pub(super) struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    path: String,
}

/// Where an upstream redirects to, as seen from our clients.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Somewhere else: passed on as it is.
    Elsewhere,
    /// To a path behind us.
    Here(String),
    /// To a part of the upstream's machine that is not behind us.
    Hidden,
}

impl Base {
    /// Reads `https://host[:port][/base/path]`.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let parts = url.parse::<Uri>().map_err(|_| "it is no URL; write https://host/path")?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("it is no absolute URL; write https://host/path");
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err("its scheme is neither http nor https");
        }
        if authority.as_str().contains('@') {
            return Err("it has a user name or password; inject credentials as headers");
        }
        if authority.host().is_empty() {
            return Err("it has no host");
        }
        if url.contains(['?', '#']) {
            return Err("it has a query or a fragment; remove it");
        }
        let path = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
        if !is_plain_path(&path) {
            return Err("its path has dot segments or backslashes");
        }
        Ok(Self { scheme, authority, path })
    }

    /// Whether what is sent there is encrypted, or stays on this machine.
    pub(super) fn is_safe_for_secrets(&self) -> bool {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        self.scheme == Scheme::HTTPS
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The address behind a path of ours; path and query as they were sent.
    pub(super) fn join(&self, target: &Uri) -> Result<Uri, http::Error> {
        let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{target}", self.path))
            .build()
    }

    /// What a `Location` of the upstream is to our clients, who see it under `mount`.
    pub(super) fn redirect(&self, location: &str, mount: &str) -> Redirect {
        // Relative, and so under the address that was asked for.
        let Ok(uri) = location.parse::<Uri>() else { return Redirect::Elsewhere };
        let is_path = location.starts_with('/') && !location.starts_with("//");
        let is_same_host = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(self.authority.host()));
        if !is_path && !is_same_host {
            return Redirect::Elsewhere;
        }
        if is_same_host && port(uri.scheme(), uri.port_u16()) != port(Some(&self.scheme), self.authority.port_u16()) {
            return Redirect::Hidden;
        }
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let here = match target.strip_prefix(&self.path) {
            Some(rest) if rest.starts_with('/') => format!("{mount}{rest}"),
            Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("{mount}/{rest}"),
            // Written by one who does not know its own base path.
            _ if is_path => format!("{mount}{target}"),
            _ => return Redirect::Hidden,
        };
        // Two slashes would be another host.
        if here.starts_with("//") { Redirect::Hidden } else { Redirect::Here(here) }
    }
}

/// The port of an address, which its scheme may imply.
fn port(scheme: Option<&Scheme>, port: Option<u16>) -> Option<u16> {
    port.or(match scheme {
        Some(scheme) if *scheme == Scheme::HTTPS => Some(443),
        Some(_) => Some(80),
        None => None,
    })
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_pass_verbatim_below_the_base_path() {
        let join =
            |base: &str, target: &str| Base::parse(base).unwrap().join(&target.parse().unwrap()).unwrap().to_string();
        assert_eq!(join("https://api.example.com", "/v1/x?a=%20b&a=c"), "https://api.example.com/v1/x?a=%20b&a=c");
        assert_eq!(join("http://127.0.0.1:9/base/", "/v1//x"), "http://127.0.0.1:9/base/v1//x");
        assert_eq!(join("http://127.0.0.1:9/base", "/"), "http://127.0.0.1:9/base/");
        assert_eq!(join("http://upstream/b", "http://other.example/x?y"), "http://upstream/b/x?y");
    }

    #[test]
    fn an_upstream_is_an_origin_and_a_path() {
        for bad in ["", "/x", "host:1", "ftp://h/", "http://u:p@h/", "http://h/?x", "http://h/#x", "http://h/a/../b"] {
            assert!(Base::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirects_within_the_upstream_come_back_to_where_it_is_mounted() {
        for mount in ["", "/openai"] {
            let base = Base::parse("http://10.0.0.7:9000/base").unwrap();
            let here = |path: &str| Redirect::Here(format!("{mount}{path}"));
            let redirect = |location| base.redirect(location, mount);
            assert_eq!(redirect("http://10.0.0.7:9000/base/a?b"), here("/a?b"));
            assert_eq!(redirect("/base/a"), here("/a"));
            assert_eq!(redirect("/base"), here("/"));
            assert_eq!(redirect("/basement"), here("/basement"));
            assert_eq!(redirect("http://10.0.0.7:9000/basement"), Redirect::Hidden);
            assert_eq!(redirect("http://10.0.0.7/base/a"), Redirect::Hidden);
            assert_eq!(redirect("http://10.0.0.7/admin"), Redirect::Hidden);
            assert_eq!(redirect("https://files.example.com/a?sig=1"), Redirect::Elsewhere);
            assert_eq!(redirect("//files.example.com/a"), Redirect::Elsewhere);
            assert_eq!(redirect("next"), Redirect::Elsewhere);
        }
    }

    #[test]
    fn a_path_never_becomes_a_host() {
        let base = Base::parse("http://10.0.0.7:9000/base").unwrap();
        assert_eq!(base.redirect("/base//evil.example/a", ""), Redirect::Hidden);
        assert_eq!(base.redirect("/base//a", "/x"), Redirect::Here("/x//a".into()));
    }

    #[test]
    fn secrets_are_safe_when_encrypted_or_on_this_machine() {
        for (url, safe) in [
            ("https://api.example.com", true),
            ("http://localhost:1", true),
            ("http://127.0.0.9", true),
            ("http://[::1]:8", true),
            ("http://10.0.0.7", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(Base::parse(url).unwrap().is_safe_for_secrets(), safe, "{url}");
        }
    }
}
