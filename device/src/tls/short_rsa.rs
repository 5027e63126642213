//! Signatures by RSA keys of less than 2048 bits, which rustls does not accept.
//!
//! A phone keeps the key that it made when it was new, through every later iOS, and old ones made 1024 bits. Such a key
//! proves no less that the phone is the paired one: its certificate is pinned, and nobody else is trusted for it.

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY as SHA256, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY as SHA512,
    RsaParameters, UnparsedPublicKey,
};
use rustls::{
    SignatureScheme,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id},
};

use crate::der;

/// The shortest modulus, in bytes, that rustls accepts.
const USUAL_BYTES: usize = 2048 / 8;

/// All that TLS 1.2 may sign with such a key. TLS 1.3 asks for PSS, which the library has for longer keys only.
pub(super) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[&RSA_SHA512, &RSA_SHA256],
    mapping: &[
        (SignatureScheme::RSA_PKCS1_SHA512, &[&RSA_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[&RSA_SHA256]),
    ],
};

static RSA_SHA256: ShortRsa = ShortRsa { verification: &SHA256, identifier: alg_id::RSA_PKCS1_SHA256 };
static RSA_SHA512: ShortRsa = ShortRsa { verification: &SHA512, identifier: alg_id::RSA_PKCS1_SHA512 };

/// Whether a SubjectPublicKeyInfo holds an RSA key that rustls finds too short.
pub(super) fn is_short(public_key_info: &[u8]) -> bool {
    let modulus_bytes = || {
        let (info, _) = der::value(public_key_info, 0x30)?;
        let (algorithm, rest) = der::value(info, 0x30)?;
        let (key, _) = der::value(rest, 0x03)?;
        let (key, _) = der::value(key.strip_prefix(&[0])?, 0x30)?;
        let (modulus, _) = der::value(key, 0x02)?;
        (algorithm == alg_id::RSA_ENCRYPTION.as_ref()).then_some(modulus.strip_prefix(&[0]).unwrap_or(modulus).len())
    };
    modulus_bytes().is_some_and(|bytes| bytes < USUAL_BYTES)
}

/// RSA by PKCS #1 version 1.5, keys of 1024 bits and more.
#[derive(Debug)]
struct ShortRsa {
    verification: &'static RsaParameters,
    identifier: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for ShortRsa {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(self.verification, key).verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }
}
