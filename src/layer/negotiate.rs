//! Whether a client would rather read a page than a problem document.

use http::{HeaderMap, header::ACCEPT};

/// Whether `Accept` names HTML at least as willingly as JSON. A client that takes anything gets JSON.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut json) = (0, 0);
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            let mut params = range.split(';').map(str::trim);
            let media = params.next().unwrap_or_default();
            let weight = params.find_map(weight).unwrap_or(1000);
            if media.eq_ignore_ascii_case("text/html") {
                html = html.max(weight);
            } else if media.eq_ignore_ascii_case("application/json")
                || media.eq_ignore_ascii_case("application/problem+json")
            {
                json = json.max(weight);
            }
        }
    }
    html > 0 && html >= json
}

/// `q=0.5` in thousandths; what cannot be read is as good as not wanted.
fn weight(param: &str) -> Option<u16> {
    let (name, value) = param.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Some(0);
    }
    let fraction = format!("{fraction:0<3}").parse::<u16>().unwrap_or(0);
    Some(match whole {
        "0" => fraction,
        "1" => 1000,
        _ => 0,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn html(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        prefers_html(&headers)
    }

    #[test]
    fn only_who_names_html_gets_html() {
        assert!(html("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(html("TEXT/HTML"));
        assert!(html("application/json;q=0.5, text/html"));
        assert!(!html("*/*"));
        assert!(!html("text/*"));
        assert!(!html("application/json, text/html;q=0.9"));
        assert!(!html("text/html;q=0"));
        assert!(!html("text/html;q=0.000"));
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
