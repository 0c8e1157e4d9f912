//! TLS to origins, and of clients to servers: the certificates that are trusted, and the certificate of the user.
//!
//! A server is trusted if its certificate leads to an authority of the system or of the user's file. One that presents a certificate of
//! that file itself, byte for byte, is trusted too, even if that certificate is one of an authority: so self-signed certificates are
//! made. Name, time and the signature of the handshake are checked in every case.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

/// Certificate of a user with its private key, which no formatter shows.
#[derive(Debug, Clone)]
pub(crate) struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl ClientIdentity {
    /// Reads the certificates and the key from PEM. `None` if one of them is missing.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let chain = certificates(pem);
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        (!chain.is_empty()).then(|| Self { chain, key: Arc::new(key) })
    }
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{path} holds no certificate in PEM form", path = .path.display())]
    NoCertificate {
        /// The path of the file.
        path: PathBuf,
    },
    /// TLS cannot be set up with the certificates.
    #[error("{path}: {source}", path = .path.display())]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: Error,
    },
}

/// Returns the TLS settings of a client that trusts the certificates in a PEM file besides those of the system.
///
/// # Errors
/// When the file cannot be read or used.
fn tls_trusting(path: &Path) -> Result<ClientConfig, CertificateFileError> {
    let unusable = |source| CertificateFileError::Unusable { path: path.to_owned(), source };
    config(read_certificates(path)?, None).map_err(unusable)
}

/// Has a client trust the certificates in a PEM file besides those of the system, if there is one.
///
/// # Errors
/// When the file cannot be read or used.
pub fn trust_certificates(
    builder: reqwest::ClientBuilder,
    path: Option<&Path>,
) -> Result<reqwest::ClientBuilder, CertificateFileError> {
    match path {
        Some(path) => Ok(builder.tls_backend_preconfigured(tls_trusting(path)?)),
        None => Ok(builder),
    }
}

/// Reads the certificates in a PEM file.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let path = path.to_owned();
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(CertificateFileError::Unreadable { path, source }),
    };
    let found = certificates(&pem);
    if found.is_empty() { Err(CertificateFileError::NoCertificate { path }) } else { Ok(found) }
}

/// Returns the certificates in PEM; none if the text is malformed.
pub(crate) fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default()
}

/// Returns the settings of connections that trust `authorities` besides those of the system.
///
/// # Errors
/// When a certificate or the user's key cannot be used.
pub(crate) fn config(
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, Error> {
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let verifier = OriginVerifier::new(authorities, Arc::clone(&provider))?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => config.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Verifier of the certificates of origins.
#[derive(Debug)]
struct OriginVerifier {
    /// None without certificates of the user's file.
    given: Option<GivenCertificates>,
    chains: Verifier,
}

/// The certificates of the user's file, and their verifier. It logs nothing, unlike the one of chains: a server that presents one of
/// them itself is no failure.
#[derive(Debug)]
struct GivenCertificates {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl OriginVerifier {
    fn new(authorities: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        if authorities.is_empty() {
            return Ok(Self { given: None, chains: Verifier::new(provider)? });
        }
        let chains = Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider))?;
        let mut roots = RootCertStore::empty();
        authorities.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { given: Some(GivenCertificates { certificates: authorities, verifier }), chains })
    }
}

impl ServerCertVerifier for OriginVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let given = self.given.as_ref().filter(|given| given.certificates.iter().any(|known| known == end_entity));
        if let Some(GivenCertificates { verifier, .. }) = given {
            match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                // The time was checked before this was found, the name was not.
                Err(error) if is_authority(&error) => {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                    return Ok(ServerCertVerified::assertion());
                }
                // An authority of the system may have issued it.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                verified => return verified,
            }
        }
        self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Returns true if nothing was found but that the server presents the certificate of an authority.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    cause.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Self-signed for `localhost` from 2026-11-30 to 2126-11-06, as `openssl req -x509` makes certificates.
    const OWN: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlDCCATugAwIBAgIUPfjDwmr/IcSx9T6LdraaCpiRTeowCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDAzNDgxMloYDzIxMjYxMTA2\n\
MDM0ODEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAAS5imuurQ5YMs3n/KUQCfrPJWnhLYOixA4v6C04IOayDk/1ZgWeji1r\n\
GLWFRvTfdZKRWLFnxDOayDt8Ur7oTIrCo2kwZzAdBgNVHQ4EFgQUiWiV9b7KvGMK\n\
vBwF5ZEUpl3l7T0wHwYDVR0jBBgwFoAUiWiV9b7KvGMKvBwF5ZEUpl3l7T0wDwYD\n\
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID\n\
RwAwRAIgUHYZISwo9sMjg3QgMFvHjav9ap5BQkY0Sdt9FQbQf5wCIDN+6acw+geK\n\
D10bP2YSICT/BQof9+jngXqOnj/eEnga\n\
-----END CERTIFICATE-----\n";
    /// Another one for the same name and time.
    const OTHER: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlTCCATugAwIBAgIUTT86m7O5pveYpj8Syjqf3uLnEmkwCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDAzNDgxMloYDzIxMjYxMTA2\n\
MDM0ODEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAASZSXM53CF2gKH/tGQvHXgb9akgoD2Yu69Ulo70UJDjWa+D3rABYFg0\n\
+uXThbLPiJsDC7T9Om46Ik5PIhrXiHPTo2kwZzAdBgNVHQ4EFgQU+7s3M22ker+D\n\
TV8OwY0OHb1bkG4wHwYDVR0jBBgwFoAU+7s3M22ker+DTV8OwY0OHb1bkG4wDwYD\n\
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID\n\
SAAwRQIgCRe/2M3TRwwt/d7mcdxIGGsQKL7b1hz3HDZbkmlZRa4CIQDgaKCJFrfc\n\
Q7aDFq1BHm/EqhsNv8sRY/co5bod2jVPjw==\n\
-----END CERTIFICATE-----\n";

    #[test]
    fn a_self_signed_certificate_is_trusted_if_it_is_the_given_one_and_name_and_time_are_right() {
        let verifier = |pem: &str| {
            OriginVerifier::new(certificates(pem.as_bytes()), Arc::new(aws_lc_rs::default_provider())).unwrap()
        };
        let (within, before, after) = (1_900_000_000, 1_700_000_000, 5_000_000_000);
        for (trusted, presented, name, time, is_trusted) in [
            (OWN, OWN, "localhost", within, true),
            (&[OTHER, OWN].concat()[..], OWN, "localhost", within, true),
            (OWN, OTHER, "localhost", within, false),
            (OWN, OWN, "origin.test", within, false),
            (OWN, OWN, "127.0.0.1", within, false),
            (OWN, OWN, "localhost", before, false),
            (OWN, OWN, "localhost", after, false),
        ] {
            let certificate = certificates(presented.as_bytes()).remove(0);
            let name = ServerName::try_from(name).unwrap();
            let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
            let verified = verifier(trusted).verify_server_cert(&certificate, &[], &name, &[], time);
            assert_eq!(verified.is_ok(), is_trusted, "{name:?} {time:?}: {verified:?}");
        }
    }

    #[test]
    fn a_client_certificate_needs_its_key_and_never_shows_it() {
        assert!(ClientIdentity::from_pem(OWN.as_bytes()).is_none());
        assert!(certificates(b"nothing").is_empty() && certificates(OWN.as_bytes()).len() == 1);
    }
}
