//! TLS with a phone: this computer shows the certificate that the phone signed up to, and accepts one peer only, the
//! holder of the key whose certificate the phone got when it was paired. No authority and no name is involved.
//!
//! Phones since iOS 10 agree on TLS 1.2 or 1.3. This is the one folder that knows rustls.

mod short_rsa;

use std::{
    fmt,
    io::{self, BufReader, Read, Write},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{Error, Result, Stream, pair_record::PairRecord};

/// How much is asked of the connection at once: several TLS records.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// What a pair record means for TLS; made once, used for every connection to that phone.
#[derive(Clone)]
pub struct TlsConfig(Arc<ClientConfig>);

impl TlsConfig {
    /// From the record's host certificate and key, and its device certificate.
    ///
    /// # Errors
    /// [`Error::PairRecord`] if one of them cannot be read.
    pub fn new(record: &PairRecord) -> Result<Self> {
        let unusable = |what: String| Error::PairRecord { udid: record.udid.clone(), what };
        let certificate = |name: &str, pem: &[u8]| {
            CertificateDer::from_pem_slice(pem).map_err(|error| unusable(format!("{name}: {error}")))
        };
        let key = PrivateKeyDer::from_pem_slice(&record.host_private_key)
            .map_err(|error| unusable(format!("HostPrivateKey: {error}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| unusable(format!("HostPrivateKey: {error}")))?;
        let host = CertifiedKey::new(vec![certificate("HostCertificate", &record.host_certificate)?], key);
        let device = certificate("DeviceCertificate", &record.device_certificate)?;
        let key = public_key(&device).map_err(|error| unusable(format!("DeviceCertificate: {error}")))?;
        let (algorithms, versions): (_, &[_]) = if short_rsa::is_short(&key) {
            (short_rsa::ALGORITHMS, &[&rustls::version::TLS12])
        } else {
            (provider.signature_verification_algorithms, &[&rustls::version::TLS13, &rustls::version::TLS12])
        };
        let verifier = Pinned { key, algorithms };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| Error::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(host)));
        config.enable_sni = false;
        // A resumed session would not show a certificate.
        config.resumption = Resumption::disabled();
        Ok(TlsConfig(Arc::new(config)))
    }

    /// Turns a stream into one of TLS, having seen the phone prove that it is the paired one.
    ///
    /// # Errors
    /// [`Error::WrongCertificate`], [`Error::Tls`], and what the stream says.
    pub fn secure(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>> {
        Ok(self.begin(stream)?.0)
    }

    /// As [`TlsConfig::secure`], and whether the phone has accepted this computer's certificate already. In TLS 1.3 it says
    /// so by what it sends first, or refuses by closing.
    pub(crate) fn begin(&self, stream: Box<dyn Stream>) -> Result<(Box<dyn Stream>, bool)> {
        let name = ServerName::try_from("phone").map_err(|error| Error::Tls(error.to_string()))?;
        let mut connection =
            ClientConnection::new(self.0.clone(), name).map_err(|error| Error::Tls(error.to_string()))?;
        let mut carrier = Carrier(BufReader::with_capacity(READ_BUFFER_BYTES, stream));
        while connection.is_handshaking() {
            connection.complete_io(&mut carrier)?;
        }
        let is_accepted = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2);
        Ok((Box::new(TlsStream { connection, carrier }), is_accepted))
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig")
    }
}

/// What TLS has to say within an error of the system's.
pub(crate) fn error_within(error: &io::Error) -> Option<Error> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            Some(Error::WrongCertificate)
        }
        error => Some(Error::Tls(error.to_string())),
    }
}

/// The public key that a certificate is for.
fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
    Ok(ParsedCertificate::try_from(certificate)?.subject_public_key_info())
}

/// Accepts certificates for one key, of whoever proves to hold it. Phones show the certificate of the pair record, or
/// another one that they made for the same key.
#[derive(Debug)]
struct Pinned {
    key: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if public_key(end_entity).is_ok_and(|key| key == self.key) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The stream below: reads are buffered, for rustls asks for 4 KiB at a time.
struct Carrier(BufReader<Box<dyn Stream>>);

impl Read for Carrier {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Carrier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

struct TlsStream {
    connection: ClientConnection,
    carrier: Carrier,
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustls::Stream::new(&mut self.connection, &mut self.carrier).read(buffer) {
            // Phones end connections without saying so within TLS. Each protocol above has its own end marks.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.carrier).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.carrier).flush()
    }
}

impl Stream for TlsStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.carrier.0.get_mut().set_read_timeout(timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.carrier.0.get_mut().set_write_timeout(timeout)
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.connection.send_close_notify();
        // Nobody may be listening any more, and that is fine.
        let _ = self.connection.write_tls(&mut self.carrier);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, server::WebPkiClientVerifier};

    use super::*;
    use crate::pairing::tests::{device_key_pem, paired};

    pub(crate) type PhoneSide = StreamOwned<ServerConnection, TcpStream>;

    /// The phone's side of TLS: shows `certificate`, held by `key`, and asks for one that `root` signed.
    pub(crate) fn phone_side(
        socket: TcpStream,
        certificate: &[u8],
        key: &[u8],
        root: &[u8],
        version: &'static rustls::SupportedProtocolVersion,
    ) -> PhoneSide {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate).unwrap()],
                PrivateKeyDer::from_pem_slice(key).unwrap(),
            )
            .unwrap();
        StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket)
    }

    pub(crate) fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (ours, theirs)
    }

    /// A phone that echoes 100 kB, showing `certificate`.
    fn connect(
        record: &PairRecord,
        certificate: Vec<u8>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<Box<dyn Stream>> {
        let (ours, theirs) = sockets();
        let root = record.root_certificate.clone();
        thread::spawn(move || {
            let mut stream = phone_side(theirs, &certificate, device_key_pem().as_bytes(), &root, version);
            let mut bytes = vec![0; 100_000];
            if stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).unwrap();
            }
            // Ends without close_notify, as phones do.
        });
        TlsConfig::new(record)?.secure(Box::new(ours))
    }

    const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

    #[test]
    fn the_paired_phone_is_spoken_to() {
        let record = paired();
        for version in VERSIONS {
            let mut stream = connect(&record, record.device_certificate.clone(), version).unwrap();
            let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
            stream.write_all(&sent).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert!(received == sent);
        }
    }

    #[test]
    fn another_certificate_of_the_same_root_is_refused() {
        let record = paired();
        let mut other = record.clone();
        // Signed by the same root; and the record's own device certificate belongs to another key.
        other.device_certificate = record.host_certificate.clone();
        for version in VERSIONS {
            let refused = connect(&other, record.device_certificate.clone(), version).map(drop);
            assert!(matches!(refused, Err(Error::WrongCertificate)), "{refused:?}");
        }
    }

    #[test]
    fn another_certificate_for_the_same_key_is_accepted() {
        let record = paired();
        let renewed = crate::pairing::new_record(&crate::pairing::tests::candidate(), "B").unwrap();
        assert_ne!(renewed.device_certificate, record.device_certificate);
        for version in VERSIONS {
            connect(&record, renewed.device_certificate.clone(), version).unwrap();
        }
    }

    #[test]
    fn an_impostor_with_the_certificate_but_not_its_key_is_refused() {
        #[derive(Debug)]
        struct Thief(Arc<CertifiedKey>);
        impl rustls::server::ResolvesServerCert for Thief {
            fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
                Some(self.0.clone())
            }
        }
        let record = paired();
        for version in VERSIONS {
            let (ours, theirs) = sockets();
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let stolen = CertificateDer::from_pem_slice(&record.device_certificate).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&record.host_private_key).unwrap();
            let key = provider.key_provider.load_private_key(key).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(Thief(Arc::new(CertifiedKey::new(vec![stolen], key)))));
            thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), theirs);
                let _ = stream.read(&mut [0; 1]);
            });
            let refused = TlsConfig::new(&record).unwrap().secure(Box::new(ours)).map(drop);
            assert!(matches!(&refused, Err(Error::Tls(why)) if why.contains("ignature")), "{refused:?}");
        }
    }

    #[test]
    fn a_peer_that_speaks_no_tls_is_refused() {
        let (ours, mut theirs) = sockets();
        thread::spawn(move || theirs.write_all(&[0x42; 4096]));
        let refused = TlsConfig::new(&paired()).unwrap().secure(Box::new(ours)).map(drop);
        assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
    }

    #[test]
    fn a_peer_that_says_nothing_runs_into_the_time_out() {
        let (ours, _theirs) = sockets();
        ours.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let refused = TlsConfig::new(&paired()).unwrap().secure(Box::new(ours)).map(drop);
        assert!(matches!(refused, Err(Error::Timeout)), "{refused:?}");
    }

    #[test]
    fn a_broken_record_is_named() {
        for break_it in [
            (|record: &mut PairRecord| record.host_private_key.truncate(50)) as fn(&mut PairRecord),
            |record| record.host_certificate.clear(),
            |record| record.device_certificate = b"hello".to_vec(),
        ] {
            let mut record = paired();
            break_it(&mut record);
            assert!(matches!(TlsConfig::new(&record), Err(Error::PairRecord { .. })));
        }
    }
}
