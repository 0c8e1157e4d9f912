//! URLs of proxies.

use url::Url;

/// The schemes of proxies that the HTTP client supports. With any other scheme it would silently use no proxy.
/// `socks5h` leaves the look-up of names to the proxy.
pub const PROXY_SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// A text that is not the URL of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a URL such as http://proxy.example.org:3128 or socks5://proxy.example.org:1080")]
pub struct InvalidProxyUrl;

/// Parses the URL of a proxy whose scheme is one of [`PROXY_SCHEMES`].
///
/// # Errors
/// [`InvalidProxyUrl`] for a text that is no URL, has no host, or has another scheme.
pub fn parse_proxy_url(text: &str) -> Result<Url, InvalidProxyUrl> {
    let is_supported = |url: &Url| PROXY_SCHEMES.contains(&url.scheme()) && url.has_host();
    text.parse().ok().filter(is_supported).ok_or(InvalidProxyUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_with_a_host_and_a_supported_scheme_are_proxies() {
        for good in ["http://me:secret@proxy:3128", "https://proxy", "socks5://127.0.0.1:1080", "socks5h://proxy"] {
            assert!(parse_proxy_url(good).is_ok(), "{good}");
        }
        for bad in ["proxy", "proxy:3128", "ftp://proxy", "socks4://proxy", "http://", "file:///x", ""] {
            assert_eq!(parse_proxy_url(bad), Err(InvalidProxyUrl), "{bad}");
        }
    }
}
