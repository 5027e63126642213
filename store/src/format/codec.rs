//! zstd, and when not to use it (SPEC §6).

use std::cell::RefCell;

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{self, CCtx, CParameter, DCtx},
};

/// How a frame's plaintext is written, by its number in the pack's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    Raw = 0,
    Zstd = 1,
    Delta = 2,
}

impl Encoding {
    pub(crate) fn from_number(number: u8) -> Option<Encoding> {
        [Encoding::Raw, Encoding::Zstd, Encoding::Delta].into_iter().find(|&encoding| encoding as u8 == number)
    }
}

/// On frames of a phone's databases and texts 140 MB/s; level 3 has 360, and keeps 5 % more. Most of a phone is photos, on which no time is lost.
const LEVEL: i32 = 6;
/// A delta is short at any level.
const DELTA_LEVEL: i32 = 3;
/// What is only compared with something.
const FAST_LEVEL: i32 = 1;
/// Below this, the header of a zstd frame eats the gain.
const COMPRESS_MIN_LEN: usize = 64;
/// Below this, a delta saves less than its place in the directory takes.
const DELTA_MIN_LEN: usize = 512;
/// What a delta takes beside its own bytes: tag, directory, index.
const DELTA_COST: usize = 80;
/// Plaintexts of this length and more are tried by samples first.
const SAMPLED_MIN_LEN: usize = 256 << 10;
const SAMPLES: usize = 8;
const SAMPLE_LEN: usize = 2 << 10;
/// From here on, a delta's matches may lie farther back than zstd's tables remember.
const LONG_DISTANCE_MIN_LEN: usize = 512 << 10;

thread_local! {
    static ZSTD: RefCell<Zstd> = RefCell::new(Zstd {
        compressor: Compressor::new(LEVEL).expect("zstd knows its levels"),
        fast: Compressor::new(FAST_LEVEL).expect("zstd knows its levels"),
        decompressor: Decompressor::new().expect("zstd gives a context"),
        compressed: Vec::new(),
        decompressed: Vec::new(),
    });
}

/// What a thread keeps, so that no chunk costs an allocation.
struct Zstd {
    compressor: Compressor<'static>,
    fast: Compressor<'static>,
    decompressor: Decompressor<'static>,
    compressed: Vec<u8>,
    decompressed: Vec<u8>,
}

/// Hands the bytes of `plaintext`, as a frame holds them, to `with`: compressed if that saves at least 3 %.
///
/// What was compressed is decompressed and compared before it counts: a defect of memory or of the library must show now, while the
/// plaintext is still here.
pub(crate) fn encode<T>(plaintext: &[u8], with: impl FnOnce(Encoding, &[u8]) -> T) -> T {
    ZSTD.with_borrow_mut(|zstd| {
        if zstd.compress(plaintext) { with(Encoding::Zstd, &zstd.compressed) } else { with(Encoding::Raw, plaintext) }
    })
}

/// `plaintext` as a delta against `base`, if that takes at most 60 % of what it takes alone. It is decoded and compared before it counts.
pub(crate) fn encode_delta(plaintext: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    if plaintext.len() < DELTA_MIN_LEN || base.is_empty() {
        return None;
    }
    let delta = compress_against(plaintext, base)?;
    let alone = ZSTD.with_borrow_mut(|zstd| zstd.compressed_len(plaintext));
    let is_worth_it = delta.len() + DELTA_COST <= alone / 5 * 3;
    (is_worth_it && decode_delta(&delta, base, plaintext.len())? == plaintext).then_some(delta)
}

fn compress_against(plaintext: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    let together = base.len() + plaintext.len();
    let mut zstd = CCtx::try_create()?;
    zstd.set_parameter(CParameter::CompressionLevel(DELTA_LEVEL)).ok()?;
    zstd.set_parameter(CParameter::WindowLog(together.next_power_of_two().ilog2().clamp(10, 27))).ok()?;
    zstd.set_parameter(CParameter::EnableLongDistanceMatching(together >= LONG_DISTANCE_MIN_LEN)).ok()?;
    zstd.ref_prefix(base).ok()?;
    let mut delta = Vec::with_capacity(zstd_safe::compress_bound(plaintext.len()));
    zstd.compress2(&mut delta, plaintext).ok()?;
    Some(delta)
}

impl Zstd {
    /// Compresses into `self.compressed`; whether that is worth keeping, and right.
    fn compress(&mut self, plaintext: &[u8]) -> bool {
        if plaintext.len() < COMPRESS_MIN_LEN || self.looks_random(plaintext) {
            return false;
        }
        self.compressed.clear();
        self.compressed.reserve(zstd_safe::compress_bound(plaintext.len()));
        let compressed = self.compressor.compress_to_buffer(plaintext, &mut self.compressed);
        compressed.is_ok() && is_gain(self.compressed.len(), plaintext.len()) && self.decompresses_to(plaintext)
    }

    /// About how long `plaintext` is when it is compressed alone.
    fn compressed_len(&mut self, plaintext: &[u8]) -> usize {
        self.compressed.clear();
        self.compressed.reserve(zstd_safe::compress_bound(plaintext.len()));
        let compressed = self.fast.compress_to_buffer(plaintext, &mut self.compressed);
        compressed.map_or(plaintext.len(), |len| len.min(plaintext.len()))
    }

    /// Whether nothing of a long plaintext shrinks in a few places.
    fn looks_random(&mut self, plaintext: &[u8]) -> bool {
        if plaintext.len() < SAMPLED_MIN_LEN {
            return false;
        }
        let stride = (plaintext.len() - SAMPLE_LEN) / (SAMPLES - 1);
        (0..SAMPLES).all(|n| {
            let sample = &plaintext[n * stride..][..SAMPLE_LEN];
            !is_gain(self.compressed_len(sample), SAMPLE_LEN)
        })
    }

    fn decompresses_to(&mut self, plaintext: &[u8]) -> bool {
        self.decompressed.clear();
        self.decompressed.reserve(plaintext.len());
        let decompressed = self.decompressor.decompress_to_buffer(&self.compressed, &mut self.decompressed);
        decompressed.is_ok() && self.decompressed == plaintext
    }
}

/// Whether compression saves at least 3 %.
fn is_gain(compressed_len: usize, len: usize) -> bool {
    compressed_len <= len - len / 32
}

/// The `len` bytes that a zstd frame decodes to; `None` if it decodes to anything else.
pub(crate) fn decode_zstd(encoded: &[u8], len: usize) -> Option<Vec<u8>> {
    if !is_one_frame(encoded) {
        return None;
    }
    let decoded = ZSTD.with_borrow_mut(|zstd| zstd.decompressor.decompress(encoded, len)).ok()?;
    (decoded.len() == len).then_some(decoded)
}

/// The `len` bytes that a delta frame decodes to against `base`; `None` if it decodes to anything else.
pub(crate) fn decode_delta(encoded: &[u8], base: &[u8], len: usize) -> Option<Vec<u8>> {
    if !is_one_frame(encoded) {
        return None;
    }
    let mut zstd = DCtx::try_create()?;
    zstd.ref_prefix(base).ok()?;
    let mut decoded = Vec::with_capacity(len);
    zstd.decompress(&mut decoded, encoded).ok()?;
    (decoded.len() == len).then_some(decoded)
}

/// Whether nothing follows the first zstd frame.
fn is_one_frame(encoded: &[u8]) -> bool {
    zstd_safe::find_frame_compressed_size(encoded) == Ok(encoded.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shrinks_noise_stays_and_lies_about_length_are_refused() {
        let text = b"the quick brown fox ".repeat(100);
        let kept = |plaintext: &[u8]| encode(plaintext, |encoding, bytes| (encoding, bytes.to_vec()));
        let (encoding, bytes) = kept(&text);
        assert_eq!(encoding, Encoding::Zstd);
        assert!(bytes.len() < text.len() / 4);
        assert_eq!(decode_zstd(&bytes, text.len()).unwrap(), text);
        assert_eq!(decode_zstd(&bytes, text.len() - 1), None);
        assert_eq!(decode_zstd(&bytes, text.len() + 1), None);
        assert_eq!(decode_zstd(&bytes[..bytes.len() - 1], text.len()), None);

        let mut noise = vec![0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(kept(&noise), (Encoding::Raw, noise));
    }
    #[test]
    fn a_delta_takes_what_changed_and_only_what_it_is_worth() {
        for len in [600, 5_000, 65_536, 4 << 20] {
            let mut noise = vec![0; 2 * len];
            blake3::Hasher::new().finalize_xof().fill(&mut noise);
            let base = noise[..len].to_vec();
            let changed = [&base[..len / 2], b"changed", &base[len / 2..]].concat();
            let delta = encode_delta(&changed, &base).unwrap();
            assert!(delta.len() < 100 + len / 500, "{len}: {}", delta.len());
            assert_eq!(decode_delta(&delta, &base, changed.len()).unwrap(), changed);
            assert_eq!(decode_delta(&delta, &base, changed.len() - 1), None);
            assert_ne!(decode_delta(&delta, &noise[len..], changed.len()), Some(changed.clone()));
            assert_eq!(encode_delta(&noise[len..], &base), None, "nothing in common");
        }
        assert_eq!(encode_delta(&[0; 65_536], &[0; 65_536]), None, "it is small alone");
        assert_eq!(encode_delta(b"short", b"short"), None);
        assert_eq!(encode_delta(&[7; 600], b""), None);
    }

    #[test]
    fn what_is_random_in_all_samples_is_kept_raw_and_what_is_not_is_compressed() {
        let mut noise = vec![0; SAMPLED_MIN_LEN];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(encode(&noise, |encoding, _| encoding), Encoding::Raw);
        noise[100_000..150_000].fill(0);
        assert_eq!(encode(&noise, |encoding, _| encoding), Encoding::Zstd);
    }
}
