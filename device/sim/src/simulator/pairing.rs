//! The phone's key, the computers it trusts, and TLS between them.

use std::io;
use std::sync::Arc;

use plist::{Dictionary, Value};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::certificate::Certificate;
use super::short_key::{self, ShortKey};
use super::{Fault, Shared, State, Trust, usbmuxd};
use crate::manifest::dictionary;

/// An RSA key.
pub(crate) struct DeviceKey {
    /// The RSAPublicKey of PKCS #1.
    public: Vec<u8>,
    signing: Arc<dyn SigningKey>,
}

/// What the phone keeps of a computer that it trusts.
#[derive(Clone)]
pub(crate) struct PairedHost {
    /// Certificates that may open a session: the host's and its root's.
    clients: Vec<CertificateDer<'static>>,
    device: CertificateDer<'static>,
    system_buid: String,
    escrow_bag: Vec<u8>,
}

impl DeviceKey {
    /// A new one of 2048 bits.
    pub(crate) fn generate() -> io::Result<DeviceKey> {
        let pair = new_key()?;
        let private = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
        let signing = aws_lc_rs::sign::any_supported_type(&private).map_err(io::Error::other)?;
        Ok(DeviceKey { public: pair.public_key_raw().to_vec(), signing })
    }

    /// The one of 1024 bits, as old phones have them.
    pub(crate) fn short() -> DeviceKey {
        DeviceKey { public: short_key::public_der(), signing: Arc::new(ShortKey) }
    }

    /// The public key as lockdownd gives it: PEM around PKCS #1.
    pub(crate) fn public_pem(&self) -> Vec<u8> {
        let mut encoded = base64_lines(&self.public);
        encoded.insert_str(0, "-----BEGIN RSA PUBLIC KEY-----\n");
        encoded.push_str("-----END RSA PUBLIC KEY-----\n");
        encoded.into_bytes()
    }

    /// A certificate for it that nobody else knows.
    fn unknown_certificate(&self) -> io::Result<CertificateDer<'static>> {
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().map_err(io::Error::other)?);
        let certificate = CertificateParams::default().signed_by(self, &issuer).map_err(io::Error::other)?;
        Ok(certificate.der().clone())
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

fn new_key() -> io::Result<KeyPair> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(io::Error::other)
}

impl PairedHost {
    pub(crate) fn has_escrow_bag(&self, bag: &[u8]) -> bool {
        self.escrow_bag == bag
    }

    pub(crate) fn system_buid(&self) -> &str {
        &self.system_buid
    }
}

/// Answers a Pair request: what lockdownd replies beside the request's name, or its error.
pub(crate) fn pair(shared: &Shared, request: &Dictionary) -> Result<Dictionary, &'static str> {
    let record = request.get("PairRecord").and_then(Value::as_dictionary).ok_or("MissingPairRecord")?;
    if ["RootPrivateKey", "HostPrivateKey"].iter().any(|key| record.contains_key(key)) {
        shared.complain("a Pair request carries a private key");
    }
    if request.get("ProtocolVersion").and_then(Value::as_string) != Some("2") {
        shared.complain("a Pair request is not of protocol version \"2\"");
    }
    let host = paired_host(shared, record).ok_or("InvalidPairRecord")?;
    let id = record.get("HostID").and_then(Value::as_string).ok_or("MissingHostID")?;
    if shared.is_locked() {
        return Err("PasswordProtected");
    }
    let options = request.get("PairingOptions").and_then(Value::as_dictionary);
    let is_extended = options.and_then(|options| options.get("ExtendedPairingErrors")?.as_boolean()) == Some(true);
    let mut state = shared.state();
    match state.trust.unwrap_or(shared.options.trust) {
        Trust::Deny => return Err("UserDeniedPairing"),
        Trust::Locked => return Err("PasswordProtected"),
        Trust::Prohibited => return Err("PairingProhibitedOverThisConnection"),
        Trust::Pending(polls) if state.trust_polls < polls => {
            state.trust_polls += 1;
            return Err(if is_extended { "PairingDialogResponsePending" } else { "PasswordProtected" });
        }
        Trust::ByMuxer => {
            if state.pair_records.contains_key(&shared.udid) {
                state.complaints.push("a second dialogue about trust was raised".to_owned());
            } else {
                pair_by_muxer(shared, &mut state).map_err(|_| "InternalError")?;
            }
            return Err("PairingDialogResponsePending");
        }
        Trust::Pending(_) | Trust::Accept => {}
    }
    let escrow_bag = Value::Data(host.escrow_bag.clone());
    state.paired.insert(id.to_owned(), host);
    Ok(dictionary([("EscrowBag", escrow_bag)]))
}

/// Pairs as usbmuxd does by itself when it hears that the owner has accepted.
fn pair_by_muxer(shared: &Shared, state: &mut State) -> io::Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (root_key, host_key) = (new_key()?, new_key()?);
    let root = authority.self_signed(&root_key).map_err(io::Error::other)?;
    let issuer = Issuer::new(authority, &root_key);
    let host = CertificateParams::default().signed_by(&host_key, &issuer).map_err(io::Error::other)?;
    let device = CertificateParams::default().signed_by(&shared.key, &issuer).map_err(io::Error::other)?;
    let data = |pem: String| Value::Data(pem.into_bytes());
    let mut record = dictionary([
        ("HostID", "HOST-OF-THE-MUXER".into()),
        ("SystemBUID", shared.system_buid.as_str().into()),
        ("RootCertificate", data(root.pem())),
        ("HostCertificate", data(host.pem())),
        ("DeviceCertificate", data(device.pem())),
    ]);
    let paired = paired_host(shared, &record).ok_or_else(|| io::Error::other("a record that makes no sense"))?;
    record.insert("EscrowBag".into(), Value::Data(paired.escrow_bag.clone()));
    record.insert("HostPrivateKey".into(), data(host_key.serialize_pem()));
    record.insert("RootPrivateKey".into(), data(root_key.serialize_pem()));
    state.paired.insert("HOST-OF-THE-MUXER".to_owned(), paired);
    let mut bytes = Vec::new();
    Value::Dictionary(record).to_writer_xml(&mut bytes).map_err(io::Error::other)?;
    state.pair_records.insert(shared.udid.clone(), bytes);
    if let Some(id) = state.device_id {
        state.listeners.retain(|listener| listener.send(usbmuxd::Event::Paired(id)).is_ok());
    }
    Ok(())
}

/// Whether the record of a ValidatePair request is one that was paired.
pub(crate) fn validate(shared: &Shared, request: &Dictionary) -> Result<(), &'static str> {
    let record = request.get("PairRecord").and_then(Value::as_dictionary).ok_or("MissingPairRecord")?;
    let id = record.get("HostID").and_then(Value::as_string).ok_or("MissingHostID")?;
    if shared.state().paired.contains_key(id) { Ok(()) } else { Err("InvalidHostID") }
}

/// None unless the certificates are of one root and one is for the phone's own key.
fn paired_host(shared: &Shared, record: &Dictionary) -> Option<PairedHost> {
    let certificate = |name: &str| Certificate::from_pem(record.get(name)?.as_data()?);
    let (root, host) = (certificate("RootCertificate")?, certificate("HostCertificate")?);
    let device = certificate("DeviceCertificate")?;
    let is_sound = root.is_signed_by(&root)
        && host.is_signed_by(&root)
        && device.is_signed_by(&root)
        && device.key == shared.key.public;
    let system_buid = record.get("SystemBUID").and_then(Value::as_string)?.to_owned();
    let mut escrow_bag = vec![0; 32];
    ::aws_lc_rs::rand::fill(&mut escrow_bag).ok()?;
    is_sound.then(|| PairedHost { clients: vec![host.der, root.der], device: device.der, system_buid, escrow_bag })
}

/// TLS as the phone speaks it with this computer.
pub(crate) fn tls(shared: &Shared, host: &PairedHost) -> io::Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (certificate, key) = match shared.fault() {
        Some(Fault::Impostor) => (shared.impostor.unknown_certificate()?, &shared.impostor),
        Some(Fault::OtherCertificate) => (shared.key.unknown_certificate()?, &shared.key),
        _ => (host.device.clone(), &shared.key),
    };
    let certified = CertifiedKey::new(vec![certificate], Arc::clone(&key.signing));
    let verifier = OnlyPaired { clients: host.clients.clone(), provider: Arc::clone(&provider) };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Accepts the certificates of one pair record and no others.
#[derive(Debug)]
struct OnlyPaired {
    clients: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for OnlyPaired {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.clients.iter().any(|client| client == end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        Err(rustls::CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Base64 in lines of 64.
fn base64_lines(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for line in bytes.chunks(48) {
        for group in line.chunks(3) {
            let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
            for at in 0..4 {
                let digit = char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
                text.push(if at <= group.len() { digit } else { '=' });
            }
        }
        text.push('\n');
    }
    text
}
