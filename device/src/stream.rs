//! A connection to a service, whatever carries it.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

/// A byte stream to a service of the phone: a socket of usbmuxd, a TLS session over one, or a USB pipe.
pub trait Stream: Read + Write + Send {
    /// How long a read may take before it fails with `TimedOut` or `WouldBlock`; for ever if `None`.
    ///
    /// # Errors
    /// What the system says.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// How long a write may wait for the other side to read before it fails in the same way; for ever if `None`.
    ///
    /// # Errors
    /// What the system says.
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

impl dyn Stream {
    /// As [`Stream::set_read_timeout`] and [`Stream::set_write_timeout`].
    ///
    /// # Errors
    /// What the system says.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)?;
        self.set_write_timeout(timeout)
    }
}
