//! Addresses in settings.

use std::net::SocketAddr;

use url::Url;

/// Parses an address and port to listen on, for clap's `value_parser`.
///
/// # Errors
/// Gives examples.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use ADDRESS:PORT such as 127.0.0.1:9000, or [::]:9000 for all addresses".to_owned())
}

/// Parses the address of an info-server, for clap's `value_parser`.
///
/// # Errors
/// Says what to write.
pub fn info_server_url(text: &str) -> Result<Url, String> {
    if text.contains("://") {
        return text.parse().map_err(|error| format!("{error}; a URL looks like http://127.0.0.1:8000"));
    }
    let with_scheme = format!("http://{text}");
    match with_scheme.parse::<Url>() {
        Ok(url) if url.has_host() => Err(format!("write {with_scheme}")),
        _ => Err("use a URL such as http://127.0.0.1:8000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_refused_comes_with_what_to_write() {
        for text in ["127.0.0.1:8000", "localhost:8000", "info.example.org"] {
            assert_eq!(info_server_url(text), Err(format!("write http://{text}")));
        }
        assert_eq!(info_server_url("").unwrap_err(), "use a URL such as http://127.0.0.1:8000");
        assert!(info_server_url("http://[::1").unwrap_err().contains("http://127.0.0.1:8000"));
        assert_eq!(info_server_url("https://info.example.org").unwrap().scheme(), "https");
        for text in ["9011", "localhost", ":9011"] {
            assert!(listen_address(text).unwrap_err().contains("ADDRESS:PORT"), "{text}");
        }
        assert_eq!(listen_address("0.0.0.0:9011").unwrap().port(), 9011);
    }
}
