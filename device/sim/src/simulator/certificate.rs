//! As much of X.509 as a phone needs of the certificates it is given: whose key is in one, and who signed it.

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY as RSA_PKCS1_SHA1, RSA_PKCS1_2048_8192_SHA256 as RSA_PKCS1_SHA256,
    UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The parts of a certificate with an RSA key, each in DER.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    /// The RSAPublicKey of PKCS #1.
    pub(crate) key: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM file; none if there is none or its key is not RSA.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Certificate> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (certificate, _) = element(&der, 0x30)?;
        let (body, after) = element(certificate, 0x30)?;
        let signed = &certificate[..certificate.len() - after.len()];
        let (_, after) = element(after, 0x30)?;
        let (signature, _) = element(after, 0x03)?;
        let mut rest = body;
        // Version, serial number, algorithm, issuer, validity, subject come before the key.
        for tag in [0xa0, 0x02, 0x30, 0x30, 0x30, 0x30] {
            rest = element(rest, tag)?.1;
        }
        let (info, _) = element(rest, 0x30)?;
        let (_, bits) = element(info, 0x30)?;
        let (key, _) = element(bits, 0x03)?;
        let bits = |value: &[u8]| value.strip_prefix(&[0]).map(<[u8]>::to_vec);
        Some(Certificate { signed: signed.to_vec(), signature: bits(signature)?, key: bits(key)?, der: der.clone() })
    }

    /// Whether `issuer` signed it with SHA-256, or with SHA-1 as libimobiledevice 1.3 does.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        [&RSA_PKCS1_SHA256, &RSA_PKCS1_SHA1].into_iter().any(|algorithm| {
            UnparsedPublicKey::new(algorithm, &issuer.key).verify(&self.signed, &self.signature).is_ok()
        })
    }
}

/// The content of the element of `tag` that `der` begins with, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (first.into(), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}
