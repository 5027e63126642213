//! Property lists on a stream, as lockdownd, DeviceLink and most services frame them: a big-endian u32 of the length,
//! then the list. Each service is spoken to in the encoding that programs proven on phones write to it; both are read.

use std::io::{Read, Write};

use plist::{Dictionary, Value};

use crate::{Error, Result, property_list};

/// The most bytes that a message of a small service may have.
pub const SMALL_MESSAGE_BYTES: usize = 4 << 20;

/// Reads one message of at most `limit` bytes. Memory grows with what arrives, not with what is announced.
///
/// # Errors
/// A longer message, one that is no property list, and what the stream says.
pub fn read_plist(stream: &mut dyn Read, limit: usize) -> Result<Value> {
    Partial::default().read_plist(stream, limit)
}

/// As [`read_plist`], for a message that must be a dictionary.
///
/// # Errors
/// As [`read_plist`], and any other kind of value.
pub fn read_dictionary(stream: &mut dyn Read, limit: usize) -> Result<Dictionary> {
    read_plist(stream, limit)?.into_dictionary().ok_or(Error::Plist(crate::PlistError::NotADictionary))
}

/// Writes one message in binary, as DeviceLink, springboard and the heartbeat have it. A single call of `write_all`
/// makes one TLS record of it where it fits.
///
/// # Errors
/// What the stream says.
pub fn write_plist(stream: &mut dyn Write, value: &Value) -> Result<()> {
    write_frame(stream, |message| value.to_writer_binary(message))
}

/// As [`write_plist`] in XML, as lockdownd, notification_proxy and installation_proxy have it.
///
/// # Errors
/// Text that XML cannot hold, and what the stream says.
pub fn write_xml_plist(stream: &mut dyn Write, value: &Value) -> Result<()> {
    write_frame(stream, |message| value.to_writer_xml(message))
}

fn write_frame(stream: &mut dyn Write, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), plist::Error>) -> Result<()> {
    let mut message = vec![0; 4];
    encode(&mut message).map_err(|error| Error::protocol(format!("a message that cannot be written: {error}")))?;
    let length = u32::try_from(message.len() - 4).map_err(|_| Error::protocol("a message of over 4 GiB"))?;
    message[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&message)?;
    Ok(stream.flush()?)
}

/// Exactly `length` bytes, in memory that grows as they arrive.
pub(crate) fn read_bytes(stream: &mut dyn Read, length: usize) -> Result<Vec<u8>> {
    let mut partial = Partial::default();
    partial.fill(stream, length)?;
    Ok(partial.take())
}

/// What has arrived of a message, so that a read that timed out within one can go on later.
#[derive(Default)]
pub(crate) struct Partial {
    bytes: Vec<u8>,
}

impl Partial {
    /// As [`read_plist`]; after [`Error::Timeout`] another call goes on where this one stopped.
    pub(crate) fn read_plist(&mut self, stream: &mut dyn Read, limit: usize) -> Result<Value> {
        let length = self.fill(stream, 4)?.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        if length as usize > limit {
            return Err(Error::protocol(format!("a message of {length} bytes, where {limit} is the most")));
        }
        self.fill(stream, 4 + length as usize)?;
        Ok(property_list::read_value(&self.take()[4..])?)
    }

    /// Reads until `length` bytes are there, in memory that grows as they arrive; what came stays, whatever happens.
    pub(crate) fn fill(&mut self, stream: &mut dyn Read, length: usize) -> Result<&[u8]> {
        let missing = length.saturating_sub(self.bytes.len());
        stream.take(missing as u64).read_to_end(&mut self.bytes)?;
        if self.bytes.len() < length {
            return Err(Error::Disconnected);
        }
        Ok(&self.bytes[..length])
    }

    /// The bytes, leaving none.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Counts calls of `write`.
    struct Calls(Vec<usize>, Vec<u8>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(bytes.len());
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn message() -> Value {
        Value::Array(vec!["DLMessageVersionExchange".into(), 400.into(), 0.into()])
    }

    #[test]
    fn a_message_is_one_write_and_reads_back() {
        let mut out = Calls(Vec::new(), Vec::new());
        write_plist(&mut out, &message()).unwrap();
        assert_eq!(out.0.len(), 1);
        assert_eq!(read_plist(&mut Cursor::new(out.1), 1000).unwrap(), message());
    }

    #[test]
    fn xml_is_written_and_read_too() {
        let mut out = Calls(Vec::new(), Vec::new());
        write_xml_plist(&mut out, &message()).unwrap();
        assert_eq!(out.0.len(), 1);
        assert!(out.1[4..].starts_with(b"<?xml"));
        assert_eq!(read_plist(&mut Cursor::new(out.1), 1000).unwrap(), message());
    }

    #[test]
    fn a_message_longer_than_the_limit_is_refused_before_it_is_read() {
        let mut stream = Cursor::new(vec![0xff; 100]);
        let refused = read_plist(&mut stream, 1000).unwrap_err();
        assert!(refused.to_string().contains("4294967295"), "{refused}");
        assert_eq!(stream.position(), 4);
    }

    #[test]
    fn a_message_cut_short_is_a_lost_connection() {
        let mut out = Calls(Vec::new(), Vec::new());
        write_plist(&mut out, &message()).unwrap();
        for length in 0..out.1.len() {
            let cut = read_plist(&mut Cursor::new(&out.1[..length]), 1000);
            assert!(matches!(cut, Err(Error::Disconnected)), "{length}: {cut:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_plist(&mut Cursor::new(&bytes), 200);
            let framed = [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
            let _ = read_plist(&mut Cursor::new(framed), 300);
        }
    }
}
