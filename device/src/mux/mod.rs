//! Which phones are connected, and streams to their ports.
//!
//! A muxer carries many connections over one cable. [`Usbmuxd`] speaks to the one that the system runs; [`Mux`] is
//! what the rest needs of any.

mod usbmuxd;

use std::{
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{Error, Result, Stream};

pub use usbmuxd::{SocketAddress, Usbmuxd};

/// A way to reach phones.
pub trait Mux: Send + Sync {
    /// The phones connected now. A phone on a cable and on the same network is there twice.
    ///
    /// # Errors
    /// A muxer that is not there or answers nonsense.
    fn devices(&self) -> Result<Vec<DeviceEntry>>;

    /// A stream to `port` of the phone. Reads and writes time out after [`crate::DEFAULT_TIMEOUT`] until told otherwise.
    ///
    /// # Errors
    /// [`Error::Refused`] if nothing listens there, [`Error::NoDevice`] if the phone is gone.
    fn connect(&self, device: &DeviceEntry, port: u16) -> Result<Box<dyn Stream>>;

    /// The pair record that the system keeps for this phone: a property list.
    ///
    /// # Errors
    /// What the muxer says; that there is no record is no error.
    fn read_pair_record(&self, udid: &str) -> Result<Option<Vec<u8>>>;

    /// Has the system keep `record`, a property list, where other programs find it.
    ///
    /// # Errors
    /// What the muxer says.
    fn save_pair_record(&self, device: &DeviceEntry, record: &[u8]) -> Result<()>;

    /// Has the system forget the pair record of this phone.
    ///
    /// # Errors
    /// What the muxer says; that there is no record is no error.
    fn delete_pair_record(&self, udid: &str) -> Result<()>;

    /// The name (a UUID) under which this computer pairs, if the system keeps one.
    ///
    /// # Errors
    /// What the muxer says.
    fn read_buid(&self) -> Result<Option<String>>;

    /// Phones as they come and go, beginning with those that are there.
    ///
    /// # Errors
    /// What the muxer says.
    fn listen(&self) -> Result<Box<dyn HotPlug>>;
}

/// A stream of [`Event`]s.
pub trait HotPlug: Send {
    /// The next event; `None` if none came in this time.
    ///
    /// # Errors
    /// A lost connection to the muxer, or nonsense from it.
    fn next(&mut self, timeout: Duration) -> Result<Option<Event>>;
}

/// What happened to a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It can be reached.
    Attached(DeviceEntry),
    /// It cannot be reached any more; the [`DeviceEntry::device_id`] it had.
    Detached(u32),
    /// Some program paired with it; its [`DeviceEntry::device_id`].
    Paired(u32),
}

/// A phone, and one way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The muxer's number for this connection; another one after the phone was unplugged.
    pub device_id: u32,
    /// The phone's identifier: 40 hexadecimal digits, or 8-16 of them with a dash. Always safe as a file name.
    pub udid: String,
    /// How it is reached.
    pub connection: Connection,
}

/// How a phone is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// By cable.
    Usb,
    /// By Wi-Fi, or whatever else is not a cable.
    Network,
}

/// Each phone once, by its best connection: the cable, if there is one.
pub fn once_each(mut devices: Vec<DeviceEntry>) -> Vec<DeviceEntry> {
    devices.sort_by(|a, b| (&a.udid, a.connection, a.device_id).cmp(&(&b.udid, b.connection, b.device_id)));
    devices.dedup_by(|a, b| a.udid == b.udid);
    devices
}

/// The phone named `udid` by its best connection.
///
/// # Errors
/// [`Error::NoDevice`], and what the muxer says.
pub fn find(mux: &dyn Mux, udid: &str) -> Result<DeviceEntry> {
    let named = canonical_udid(udid);
    once_each(mux.devices()?)
        .into_iter()
        .find(|device| Some(&device.udid) == named.as_ref())
        .ok_or_else(|| Error::NoDevice { udid: Some(udid.to_owned()) })
}

/// Waits for the phone named `udid` to be there, for example after it restarted; by its best connection, if it comes by
/// several.
///
/// # Errors
/// [`Error::Timeout`], and what the muxer says.
pub fn wait_for(mux: &dyn Mux, udid: &str, timeout: Duration) -> Result<DeviceEntry> {
    let named = canonical_udid(udid);
    let start = Instant::now();
    let mut events = mux.listen()?;
    loop {
        let left = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero()).ok_or(Error::Timeout)?;
        match events.next(left)? {
            Some(Event::Attached(device)) if Some(&device.udid) == named.as_ref() => {
                return Ok(find(mux, udid).unwrap_or(device));
            }
            _ => {}
        }
    }
}

/// The identifier as lockdownd writes it, if it can be one: USB serial numbers of 24 digits lack the dash that the
/// identifier has after the eighth.
pub fn canonical_udid(text: &str) -> Option<String> {
    let text = text.trim_matches('\0');
    let plausible =
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plausible.then(|| match text.len() {
        24 if !text.contains('-') => format!("{}-{}", &text[..8], &text[8..]),
        _ => text.to_owned(),
    })
}

impl Stream for TcpStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_write_timeout(self, timeout)
    }
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        std::os::unix::net::UnixStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        std::os::unix::net::UnixStream::set_write_timeout(self, timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(device_id: u32, udid: &str, connection: Connection) -> DeviceEntry {
        DeviceEntry { device_id, udid: udid.to_owned(), connection }
    }

    #[test]
    fn a_phone_on_both_is_taken_by_its_cable() {
        let both = vec![
            entry(1, "b", Connection::Network),
            entry(2, "b", Connection::Usb),
            entry(3, "a", Connection::Network),
        ];
        assert_eq!(once_each(both), [entry(3, "a", Connection::Network), entry(2, "b", Connection::Usb)]);
    }

    #[test]
    fn identifiers_are_file_names() {
        assert_eq!(canonical_udid("00008030001A2B3C4D5E6F70").unwrap(), "00008030-001A2B3C4D5E6F70");
        assert_eq!(canonical_udid("00008030-001A2B3C4D5E6F70").unwrap(), "00008030-001A2B3C4D5E6F70");
        assert_eq!(canonical_udid(&"ab".repeat(20)).unwrap(), "ab".repeat(20));
        for hostile in ["", "../x", "a/b", "a\0b", "ü", &"a".repeat(65)] {
            assert_eq!(canonical_udid(hostile), None, "{hostile:?}");
        }
    }
}
