//! Whether what is kept of a content gives the file of the backup folder again.

use std::io;

use crate::{
    error::{Error, Result},
    format::{entry::Content, phone_cipher::Resealing},
};

/// A content as it is in the backup folder, made of what is kept of it: hashed, and encrypted before that if it is kept as plaintext.
pub(crate) struct Rebuilt {
    hasher: blake3::Hasher,
    resealing: Option<Resealing>,
    plaintext_len: u64,
    failure: Option<io::Error>,
}

impl Rebuilt {
    pub(crate) fn of(content: &Content) -> Rebuilt {
        let resealing = content.sealing.as_ref().map(Resealing::of);
        Rebuilt { hasher: blake3::Hasher::new(), resealing, plaintext_len: 0, failure: None }
    }

    /// Takes what comes next of what is kept.
    pub(crate) fn update(&mut self, plaintext: &[u8]) {
        self.plaintext_len += plaintext.len() as u64;
        match self.resealing.as_mut().map(|resealing| resealing.seal(plaintext)) {
            Some(Ok(ciphertext)) => _ = self.hasher.update(&ciphertext),
            Some(Err(error)) => self.failure = Some(error),
            None => _ = self.hasher.update(plaintext),
        }
    }

    /// Whether all of it was `content`.
    ///
    /// # Errors
    /// [`Error::WrongContent`] if not; [`Error::Source`] if the cipher fails.
    pub(crate) fn verify(mut self, content: &Content) -> Result<()> {
        if let Some(failure) = self.failure {
            return Err(Error::Source(failure));
        }
        if let (Some(resealing), Some(sealing)) = (self.resealing, &content.sealing) {
            self.hasher.update(&resealing.finish(sealing, content.length).map_err(Error::Source)?);
        }
        let is_whole = self.plaintext_len == content.plaintext_len();
        if is_whole && *self.hasher.finalize().as_bytes() == content.hash { Ok(()) } else { Err(Error::WrongContent) }
    }
}
