//! What a phone is given to trust this computer: a root certificate and, signed by it, one for this computer and one
//! for the phone's own key. The shape of all three is that of libimobiledevice's, which every phone accepts: version
//! 3, empty names, RSA of 2048 bits, SHA-256, ten years.
//!
//! The dialog that carries them is in [`crate::lockdown`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    PublicKeyData, SerialNumber, SignatureAlgorithm,
};

use crate::{Error, Result, der, pair_record::PairRecord};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const VALIDITY_DAYS: u32 = 3650;
/// The year 9900, in seconds since 1970: a clock that is beyond it counts as this, because a certificate must end before the year 10000.
const LATEST: u64 = 250_246_540_800;
/// An RSA key of 16384 bits has some 2 KiB; this bounds what is signed.
const MAX_PUBLIC_KEY_BYTES: usize = 4096;

/// What a phone says about itself before it is paired.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The phone's identifier.
    pub udid: String,
    /// Its public key as lockdownd gives it under `DevicePublicKey`: PKCS#1 in PEM.
    pub public_key: Vec<u8>,
    /// Its Wi-Fi address under `WiFiAddress`, by which other programs find it on the network.
    pub wifi_mac_address: Option<String>,
}

/// A new pair record for this phone, which has not agreed to it yet. Two RSA keys are made, which takes up to a
/// second.
///
/// `system_buid` names this computer towards all phones (see [`crate::mux::Mux::read_buid`]).
///
/// # Errors
/// [`Error::Protocol`] for a public key that is none, [`Error::Host`] if no keys can be made.
pub fn new_record(candidate: &Candidate, system_buid: &str) -> Result<PairRecord> {
    let device_key = DevicePublicKey(pkcs1_from_pem(&candidate.public_key)?);
    let root_key = new_key()?;
    let host_key = new_key()?;
    let root = parameters(true)?;
    let root_certificate = root.self_signed(&root_key).map_err(host_error)?;
    let issuer = Issuer::from_params(&root, &root_key);
    let host_certificate = parameters(false)?.signed_by(&host_key, &issuer).map_err(host_error)?;
    let device_certificate = parameters(false)?.signed_by(&device_key, &issuer).map_err(host_error)?;
    Ok(PairRecord {
        udid: candidate.udid.clone(),
        host_id: new_uuid()?,
        system_buid: system_buid.to_owned(),
        host_certificate: host_certificate.pem().into_bytes(),
        host_private_key: host_key.serialize_pem().into_bytes(),
        root_certificate: root_certificate.pem().into_bytes(),
        root_private_key: Some(root_key.serialize_pem().into_bytes()),
        device_certificate: device_certificate.pem().into_bytes(),
        escrow_bag: None,
        wifi_mac_address: candidate.wifi_mac_address.clone(),
    })
}

/// A random UUID in upper case, as Apple's programs write them.
///
/// # Errors
/// [`Error::Host`] if the system has no randomness to give.
pub fn new_uuid() -> Result<String> {
    let mut bytes = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(host_error)?;
    Ok(bytes)
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_RSA_SHA256).map_err(host_error)
}

/// The root certificate, or one that it signs.
fn parameters(root: bool) -> Result<CertificateParams> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let today = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970.as_secs().min(LATEST));
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.serial_number = Some(SerialNumber::from_slice(&random()?[..8]));
    // The phone's clock may be behind this computer's.
    parameters.not_before = today - DAY;
    parameters.not_after = today + VALIDITY_DAYS * DAY;
    if root {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    } else {
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    }
    Ok(parameters)
}

fn host_error(error: impl std::fmt::Display) -> Error {
    Error::Host(std::io::Error::other(error.to_string()))
}

/// An RSA key of the phone's: PKCS#1 in DER, which is what a SubjectPublicKeyInfo wraps.
struct DevicePublicKey(Vec<u8>);

impl PublicKeyData for DevicePublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// The DER within `-----BEGIN RSA PUBLIC KEY-----`, if it is a sequence of two positive integers.
fn pkcs1_from_pem(pem: &[u8]) -> Result<Vec<u8>> {
    let refused = || Error::protocol("the phone's DevicePublicKey is no RSA public key");
    let text =
        std::str::from_utf8(pem).ok().filter(|text| text.len() <= 2 * MAX_PUBLIC_KEY_BYTES).ok_or_else(refused)?;
    let (_, rest) = text.split_once("-----BEGIN RSA PUBLIC KEY-----").ok_or_else(refused)?;
    let (base64, _) = rest.split_once("-----END RSA PUBLIC KEY-----").ok_or_else(refused)?;
    let base64: String = base64.split_ascii_whitespace().collect();
    let der = BASE64.decode(base64).map_err(|_| refused())?;
    let integers = || {
        let (sequence, nothing) = der::value(&der, 0x30)?;
        let (modulus, rest) = der::value(sequence, 0x02)?;
        let (exponent, nothing_either) = der::value(rest, 0x02)?;
        let positive = |integer: &[u8]| integer.first().is_some_and(|&byte| byte < 0x80);
        let complete = nothing.is_empty() && nothing_either.is_empty();
        (complete && modulus.len() >= 128 && positive(modulus) && positive(exponent)).then_some(())
    };
    integers().ok_or_else(refused)?;
    Ok(der)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static DEVICE_KEY: LazyLock<KeyPair> = LazyLock::new(|| new_key().unwrap());
    static RECORD: LazyLock<PairRecord> = LazyLock::new(|| new_record(&candidate(), "BUID-OF-THIS-COMPUTER").unwrap());

    /// The private key of the phone in these tests.
    pub(crate) fn device_key_pem() -> String {
        DEVICE_KEY.serialize_pem()
    }

    pub(crate) fn candidate() -> Candidate {
        let base64 = BASE64.encode(DEVICE_KEY.public_key_raw());
        Candidate {
            udid: "00008030-001A2B3C4D5E6F70".into(),
            public_key: format!("-----BEGIN RSA PUBLIC KEY-----\n{base64}\n-----END RSA PUBLIC KEY-----\n")
                .into_bytes(),
            wifi_mac_address: Some("aa:bb:cc:dd:ee:ff".into()),
        }
    }

    /// A record for that phone.
    pub(crate) fn paired() -> PairRecord {
        RECORD.clone()
    }

    fn der(pem: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(pem).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        BASE64.decode(base64).unwrap()
    }

    /// The certificate's fields: version, serial, algorithm, issuer, validity, subject, key, extensions.
    fn fields(certificate: &[u8]) -> Vec<Vec<u8>> {
        let (certificate, _) = der::value(certificate, 0x30).unwrap();
        let (mut rest, _) = der::value(certificate, 0x30).unwrap();
        let mut fields = Vec::new();
        while let Some((&tag, _)) = rest.split_first() {
            let (field, after) = der::value(rest, tag).unwrap();
            fields.push(field.to_vec());
            rest = after;
        }
        fields
    }

    #[test]
    fn certificates_have_the_shape_that_phones_know() {
        let record = paired();
        let contains = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        // OIDs of basicConstraints with CA:TRUE, and of keyUsage with digitalSignature and keyEncipherment.
        let authority = [0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff];
        let usage = [0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x05, 0xa0];
        let sha256_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
        for (pem, is_root) in
            [(&record.root_certificate, true), (&record.host_certificate, false), (&record.device_certificate, false)]
        {
            let certificate = der(pem);
            let fields = fields(&certificate);
            assert_eq!(fields[0], [0x02, 0x01, 0x02], "version 3");
            assert!(contains(&fields[2], &sha256_rsa));
            assert!(fields[3].is_empty() && fields[5].is_empty(), "empty names");
            assert_eq!(contains(&certificate, &authority), is_root);
            assert_eq!(contains(&certificate, &usage), !is_root);
        }
        let device = der(&record.device_certificate);
        assert!(contains(&device, DEVICE_KEY.public_key_raw()), "the phone's certificate is for the phone's key");
    }

    #[test]
    fn every_record_has_keys_and_names_of_its_own() {
        let (one, two) = (paired(), new_record(&candidate(), "B").unwrap());
        assert_ne!(one.host_id, two.host_id);
        assert_ne!(one.host_private_key, two.host_private_key);
        assert_ne!(Some(&one.host_private_key), one.root_private_key.as_ref());
        let shape: String = one.host_id.chars().map(|c| if c == '-' { '-' } else { 'x' }).collect();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let pem = String::from_utf8(candidate().public_key).unwrap();
        assert!(pkcs1_from_pem(pem.as_bytes()).is_ok());
        let long = format!("{pem}{}", " ".repeat(2 * MAX_PUBLIC_KEY_BYTES));
        let tailed = BASE64.encode([DEVICE_KEY.public_key_raw(), b"x"].concat());
        let tailed = format!("-----BEGIN RSA PUBLIC KEY-----\n{tailed}\n-----END RSA PUBLIC KEY-----");
        for hostile in [
            "",
            "-----BEGIN RSA PUBLIC KEY-----",
            "-----BEGIN RSA PUBLIC KEY----------END RSA PUBLIC KEY-----",
            "-----BEGIN RSA PUBLIC KEY-----MAYCAQECAQE=-----END RSA PUBLIC KEY-----",
            &pem.replace("RSA PUBLIC", "PUBLIC"),
            &tailed,
            &long,
        ] {
            assert!(matches!(pkcs1_from_pem(hostile.as_bytes()), Err(Error::Protocol { .. })), "{hostile}");
        }
    }

    proptest! {
        #[test]
        fn any_key_ends_in_a_verdict(der in prop::collection::vec(any::<u8>(), 0..300), pem in ".{0,100}") {
            let _ = pkcs1_from_pem(pem.as_bytes());
            let base64 = BASE64.encode(der);
            let _ = pkcs1_from_pem(format!("-----BEGIN RSA PUBLIC KEY-----{base64}-----END RSA PUBLIC KEY-----").as_bytes());
        }
    }
}
