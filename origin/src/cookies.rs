//! The cookies of one request with its redirects (RFC 6265): some servers send a redirect to the same place and expect the cookie
//! there. They are forgotten with the request, and are sent to the very server that set them and to no other.

use reqwest::header::{HeaderMap, HeaderValue, SET_COOKIE};
use wire::OriginUrl;

/// Most cookies, and the longest one.
const MAX_COOKIES: usize = 32;
const MAX_COOKIE_LEN: usize = 4096;

/// The cookies that servers set on the way.
#[derive(Debug, Default)]
pub(crate) struct CookieJar {
    cookies: Vec<Cookie>,
}

#[derive(Debug)]
struct Cookie {
    /// Scheme, host and port that set it.
    origin: String,
    path: String,
    name: String,
    value: String,
}

impl CookieJar {
    /// Takes in the cookies of a response from `url`.
    pub(crate) fn store(&mut self, url: &OriginUrl, headers: &HeaderMap) {
        for field in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let Some(Parsed { cookie, is_over }) = parse(url, field) else { continue };
            let is_same = |other: &Cookie| {
                (&other.origin, &other.path, &other.name) == (&cookie.origin, &cookie.path, &cookie.name)
            };
            self.cookies.retain(|other| !is_same(other));
            if !is_over && self.cookies.len() < MAX_COOKIES {
                self.cookies.push(cookie);
            }
        }
    }

    /// Returns the field `Cookie` for a request, if it has one; `given` are those of the user.
    pub(crate) fn field(&self, url: &OriginUrl, given: Option<&str>) -> Option<HeaderValue> {
        let origin = url.origin();
        let own = self.cookies.iter().filter(|it| it.origin == origin && covers(&it.path, url.url().path()));
        let own = own.map(|it| if it.name.is_empty() { it.value.clone() } else { format!("{}={}", it.name, it.value) });
        let all: Vec<String> = given.map(str::to_owned).into_iter().chain(own).collect();
        let mut value = HeaderValue::try_from(all.join("; ")).ok().filter(|_| !all.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// A field that was read.
struct Parsed {
    cookie: Cookie,
    /// Set if the server removes the cookie.
    is_over: bool,
}

fn parse(url: &OriginUrl, field: &str) -> Option<Parsed> {
    let mut parts = field.split(';');
    let pair = parts.next()?.trim();
    if pair.is_empty() || pair.len() > MAX_COOKIE_LEN {
        return None;
    }
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    let default_path =
        url.url().path().rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let (mut path, mut is_over) = (default_path.to_owned(), false);
    for attribute in parts {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "path" if value.trim().starts_with('/') => path = value.trim().to_owned(),
            "max-age" => is_over = value.trim().parse::<i64>().is_ok_and(|seconds| seconds <= 0),
            _ => {}
        }
    }
    let cookie = Cookie { origin: url.origin(), path, name: name.trim().to_owned(), value: value.trim().to_owned() };
    Some(Parsed { cookie, is_over })
}

/// Returns true if a path is that of the cookie, or below it (RFC 6265 §5.1.4).
fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(url: &str, fields: &[&str]) -> CookieJar {
        let mut jar = CookieJar::default();
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(SET_COOKIE, field.parse().unwrap());
        }
        jar.store(&url.parse().unwrap(), &headers);
        jar
    }

    fn sent(jar: &CookieJar, url: &str, given: Option<&str>) -> Option<String> {
        jar.field(&url.parse().unwrap(), given).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_go_back_to_the_server_that_set_them_and_to_no_other() {
        let set = jar("http://a.org/d/x", &["seen=1; Path=/", "k=v; Domain=.org; HttpOnly", "other; path=/else"]);
        assert_eq!(sent(&set, "http://a.org/d/y", None).as_deref(), Some("seen=1; k=v"));
        assert_eq!(sent(&set, "http://a.org/", None).as_deref(), Some("seen=1"));
        assert_eq!(sent(&set, "http://a.org/else/z", None).as_deref(), Some("seen=1; other"));
        assert_eq!(sent(&set, "http://a.org/elsewhere", None).as_deref(), Some("seen=1"));
        for other in ["https://a.org/d/y", "http://a.org:8080/d/y", "http://b.a.org/d/y", "http://b.org/d/y"] {
            assert_eq!(sent(&set, other, None), None, "{other}");
        }
        assert_eq!(sent(&set, "http://a.org/", Some("mine=1")).as_deref(), Some("mine=1; seen=1"));
    }

    #[test]
    fn a_cookie_is_replaced_and_removed_and_a_flood_is_bounded() {
        let mut set = jar("http://a.org/", &["a=1", "a=2", "b=1"]);
        assert_eq!(sent(&set, "http://a.org/", None).as_deref(), Some("a=2; b=1"));
        let over = HeaderMap::from_iter([(SET_COOKIE, "a=; Max-Age=0".parse().unwrap())]);
        set.store(&"http://a.org/".parse().unwrap(), &over);
        assert_eq!(sent(&set, "http://a.org/", None).as_deref(), Some("b=1"));
        let many: Vec<String> = (0..100).map(|n| format!("c{n}=1")).collect();
        let many = jar("http://a.org/", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(many.cookies.len(), MAX_COOKIES);
        assert_eq!(
            sent(&jar("http://a.org/", &["", ";", &format!("x={}", "y".repeat(5000))]), "http://a.org/", None),
            None
        );
    }
}
