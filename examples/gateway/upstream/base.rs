//! The address of an upstream: an origin and a base path.

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Origin and base path.
#[derive(Clone, Debug)]
pub(crate) struct Base {
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
    /// To a path of this gateway.
    Here(String),
    /// To a part of the upstream that is not behind this gateway.
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
            return Err("it has a user name or password; put credentials into upstream.headers");
        }
        if authority.host().is_empty() {
            return Err("it has no host");
        }
        if url.contains(['?', '#']) {
            return Err("it has a query or a fragment; remove it");
        }
        let path = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
        if !super::super::paths::is_plain(&path) {
            return Err("its path has dot segments or backslashes");
        }
        Ok(Self { scheme, authority, path })
    }

    /// Whether the address is this machine or encrypted on the way.
    pub(crate) fn is_safe_for_secrets(&self) -> bool {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        self.scheme == Scheme::HTTPS
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
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

    /// What a `Location` of the upstream is to our clients.
    pub(super) fn redirect(&self, location: &str) -> Redirect {
        let Ok(uri) = location.parse::<Uri>() else { return Redirect::Elsewhere };
        let is_path = location.starts_with('/') && !location.starts_with("//");
        let is_own = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(self.authority.host()));
        if !is_path && !is_own {
            return Redirect::Elsewhere;
        }
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        match target.strip_prefix(&self.path) {
            Some(rest) if rest.starts_with('/') => Redirect::Here(rest.to_owned()),
            Some(rest) if rest.is_empty() || rest.starts_with('?') => Redirect::Here(format!("/{rest}")),
            _ if is_path => Redirect::Here(target.to_owned()),
            _ => Redirect::Hidden,
        }
    }
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
    fn redirects_within_the_upstream_come_back_to_the_gateway() {
        let base = Base::parse("http://10.0.0.7:9000/base").unwrap();
        let here = |path: &str| Redirect::Here(path.into());
        assert_eq!(base.redirect("http://10.0.0.7:9000/base/a?b"), here("/a?b"));
        assert_eq!(base.redirect("/base/a"), here("/a"));
        assert_eq!(base.redirect("/base"), here("/"));
        assert_eq!(base.redirect("/basement"), here("/basement"));
        assert_eq!(base.redirect("http://10.0.0.7/admin"), Redirect::Hidden);
        assert_eq!(base.redirect("https://files.example.com/a?sig=1"), Redirect::Elsewhere);
        assert_eq!(base.redirect("//files.example.com/a"), Redirect::Elsewhere);
        assert_eq!(base.redirect("next"), Redirect::Elsewhere);
    }
}
