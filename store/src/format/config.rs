//! `config`: what a repository is, readable without its password (SPEC §3); and the form of text that it shares with slots.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    format::seal::Cipher,
    id::{RepositoryId, decode_hex, encode_hex},
    storage::layout::CONFIG_FILE,
};

/// The most that a config or a slot may take.
pub(crate) const TEXT_MAX_LEN: usize = 64 << 10;

const FORMAT: u32 = 1;

/// The first line of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) heirloom: u32,
    pub(crate) id: RepositoryId,
    pub(crate) cipher: Cipher,
    pub(crate) created: i64,
    pub(crate) pack_bytes: u32,
    #[serde(default)]
    pub(crate) read_needs: Vec<String>,
    #[serde(default)]
    pub(crate) write_needs: Vec<String>,
    /// Whether packs get parity.
    #[serde(default)]
    pub(crate) parity: bool,
}

impl Config {
    /// One without parity.
    pub(crate) fn new(id: RepositoryId, cipher: Cipher, pack_bytes: u32, created: i64) -> Config {
        let (read_needs, write_needs) = (Vec::new(), Vec::new());
        Config { heirloom: FORMAT, id, cipher, created, pack_bytes, read_needs, write_needs, parity: false }
    }

    /// The first line of `config`, as it is also kept in each slot.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a config is plain JSON")
    }

    /// Reads the first line, and refuses what this program does not know. `file` is for the error.
    pub(crate) fn parse(line: &str, file: &str) -> Result<Config> {
        /// Nothing else of another version can be relied on.
        #[derive(Deserialize)]
        struct OnlyVersion {
            heirloom: u64,
        }
        /// These decide whether the rest can be understood.
        #[derive(Deserialize)]
        struct Needs {
            #[serde(default)]
            read_needs: Vec<String>,
            cipher: Option<String>,
        }
        let not_config = |error: serde_json::Error| Error::damaged(file, format!("it is not a config: {error}"));
        let begin: OnlyVersion = serde_json::from_str(line).map_err(not_config)?;
        if begin.heirloom != u64::from(FORMAT) {
            return Err(Error::newer(file, format!("format {}", begin.heirloom)));
        }
        let Needs { read_needs, cipher } = serde_json::from_str(line).map_err(not_config)?;
        if let Some(feature) = read_needs.first() {
            return Err(Error::newer(file, format!("the feature {feature:?}")));
        }
        if let Some(cipher) = cipher.filter(|cipher| !is_known::<Cipher>(cipher)) {
            return Err(Error::newer(file, format!("the cipher {cipher:?}")));
        }
        serde_json::from_str(line).map_err(not_config)
    }

    /// Refuses to write what a newer program would misread.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.write_needs.first() {
            Some(feature) => Err(Error::newer(CONFIG_FILE, format!("the feature {feature:?} to write"))),
            None => Ok(()),
        }
    }
}

/// Whether `T` has a variant that is called `name`.
pub(crate) fn is_known<T: DeserializeOwned>(name: &str) -> bool {
    T::deserialize(serde_json::Value::from(name)).is_ok()
}

/// A line and its BLAKE3 on a line of its own.
pub(crate) fn with_check_line(line: &str) -> Vec<u8> {
    format!("{line}\n{}\n", encode_hex(blake3::hash(line.as_bytes()).as_bytes())).into_bytes()
}

/// The line of a text that [`with_check_line`] made.
pub(crate) fn checked_line<'a>(text: &'a [u8], file: &str) -> Result<&'a str> {
    let lines = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n')?.split_once('\n'));
    let checked = lines.filter(|(line, check)| {
        let mut hash = [0; 32];
        decode_hex(check, &mut hash) && hash == *blake3::hash(line.as_bytes()).as_bytes()
    });
    checked.map(|(line, _)| line).ok_or_else(|| Error::damaged(file, "its second line is not the BLAKE3 of its first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_goes_round_and_every_flip_is_noticed() {
        let config = Config::new(RepositoryId([3; 16]), Cipher::default(), 1 << 24, 1_600_000_000);
        let text = with_check_line(&config.to_line());
        assert_eq!(Config::parse(checked_line(&text, "config").unwrap(), "config").unwrap(), config);
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            assert!(checked_line(&damaged, "config").is_err(), "{at}");
            assert!(checked_line(&text[..at], "config").is_err(), "{at}");
        }
    }

    #[test]
    fn newer_formats_and_features_are_refused_as_such() {
        let mut config = Config::new(RepositoryId([3; 16]), Cipher::default(), 1 << 24, 0);
        config.write_needs = vec!["later".into()];
        assert!(Config::parse(&config.to_line(), "config").unwrap().check_writable().is_err());
        config.read_needs = vec!["later".into()];
        assert!(matches!(Config::parse(&config.to_line(), "config"), Err(Error::Unsupported { .. })));
        assert!(matches!(Config::parse(r#"{"heirloom":2}"#, "config"), Err(Error::Unsupported { .. })));
    }
}
