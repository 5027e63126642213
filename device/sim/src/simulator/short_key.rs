//! An RSA key of 1024 bits, such as old phones made for themselves and keep. Libraries neither make nor use them any more, so
//! this one was made before, and signs here.

use aws_lc_rs::digest::{SHA256, digest};
use num_bigint::BigUint;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

const BYTES: usize = 128;

/// The RSAPublicKey of PKCS #1 up to the modulus, and what is behind that: the exponent 65537.
const BEFORE_MODULUS: [u8; 7] = [0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
const AFTER_MODULUS: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

const MODULUS: &[u8] = b"\
9b521ca07034ba5c50a7acdc1b8630bf3c5f0bb7039ddcd853cb3bf05347acedc14b0584f43e1087f45b8517276f56b2c40a\
2ee6f90f476ff0929c0063e4a0527647524c75610cc2ba58b5b9477ca6da810aebdbe78b7d9db3c501d3099c6f148d03d518\
b0180ca2885907079f6a17e4b88e6a99b92b10727931e19fca234e69";
const PRIVATE_EXPONENT: &[u8] = b"\
3aea43978bd844545df7ac36f56dca31cfd9919d030f2f45134bc4d99d0d5407ff48d0b824d921f61ff7531d7c44dc5304cf\
8408f2b21bfbd6fa1598844ba58feaa256b3c9325a9b1ebefcc098b4c3038b259b7ca28a57584f0c02a62c4c8d76196264ce\
dc64c1303b00238ba60c702c43a54577e9987069a55e1a6bbb47cbdd";

/// Before the hash in a signature: a DigestInfo that says SHA-256.
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// The private key. It signs by PKCS #1 version 1.5 with SHA-256.
#[derive(Debug)]
pub(super) struct ShortKey;

/// The public key as PKCS #1 has it.
pub(super) fn public_der() -> Vec<u8> {
    [&BEFORE_MODULUS[..], &number(MODULUS).to_bytes_be(), &AFTER_MODULUS].concat()
}

fn number(hexadecimal: &[u8]) -> BigUint {
    BigUint::parse_bytes(hexadecimal, 16).unwrap_or_default()
}

impl SigningKey for ShortKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::RSA_PKCS1_SHA256).then(|| Box::new(ShortKey) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for ShortKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let end = [&[0][..], &DIGEST_INFO, digest(&SHA256, message).as_ref()].concat();
        let mut padded = vec![0xff; BYTES - end.len()];
        padded[..2].copy_from_slice(&[0, 1]);
        padded.extend(end);
        let signature =
            BigUint::from_bytes_be(&padded).modpow(&number(PRIVATE_EXPONENT), &number(MODULUS)).to_bytes_be();
        Ok([vec![0; BYTES - signature.len()], signature].concat())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PKCS1_SHA256
    }
}
