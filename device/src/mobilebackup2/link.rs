//! The connection to mobilebackup2 under time-outs and cancelling: every wait is cut into short ones.

use std::{
    io::{self, BufReader, Read, Write},
    time::{Duration, Instant},
};

use plist::Value;

use super::{Control, DeviceMessage, Event, Progress, Tally, Warning, session};
use crate::{Error, Result, Stream, frame};

/// How long one wait is, at most; then it is looked whether to go on.
const TICK: Duration = Duration::from_millis(250);
/// A message that moves a million files has some 150 MB.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
const PROGRESS_BYTES: u64 = 1 << 20;

/// The stream of a client, buffered.
pub(super) type Wire = BufReader<Box<dyn Stream>>;

/// Buffers a stream. A TLS record holds at most 16 KiB.
pub(super) fn wire(stream: Box<dyn Stream>) -> Wire {
    BufReader::with_capacity(64 << 10, stream)
}

/// A connection for the time of one operation.
///
/// Reads and writes fail with an error of the system's, so that they can pass through [`HostDir`](super::HostDir); what
/// truly happened is kept here, and until it is taken nothing more is read or written.
pub(super) struct Link<'c, 'a> {
    wire: &'c mut Wire,
    control: &'c mut Control<'a>,
    /// How long each single wait may last, for a byte to come or to be taken.
    patience: Duration,
    failure: Option<Error>,
    looked_up: Option<Instant>,
    percent: Option<f64>,
    pub received: Tally,
    pub sent: Tally,
    next_progress: u64,
}

impl<'c, 'a> Link<'c, 'a> {
    pub fn new(wire: &'c mut Wire, control: &'c mut Control<'a>) -> Result<Self> {
        wire.get_mut().set_timeout(Some(TICK))?;
        Ok(Link {
            patience: control.timeouts.operation,
            wire,
            control,
            failure: None,
            looked_up: None,
            percent: None,
            received: Tally::default(),
            sent: Tally::default(),
            next_progress: PROGRESS_BYTES,
        })
    }

    /// As [`new`](Link::new), for the greeting: what is there answers soon or not at all.
    pub fn for_greeting(wire: &'c mut Wire, control: &'c mut Control<'a>) -> Result<Self> {
        let patience = control.timeouts.handshake;
        Ok(Link { patience, ..Link::new(wire, control)? })
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> Result<DeviceMessage> {
        self.look_up()?;
        let received = frame::read_plist(self, MAX_MESSAGE_BYTES);
        let message = DeviceMessage::parse(received.map_err(|error| self.failure().unwrap_or(error))?)?;
        if let Some(percent) = message.percent() {
            self.percent = Some(percent);
            self.report("");
        }
        Ok(message)
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        frame::write_plist(self, message).map_err(|error| self.failure().unwrap_or(error))
    }

    /// What made a read or a write fail, if one did.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether a read or a write failed.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The error of the connection behind one of the system's.
    pub fn cause(&mut self, error: io::Error) -> Error {
        self.failure().unwrap_or_else(|| error.into())
    }

    pub fn emit(&mut self, event: Event<'_>) {
        (self.control.events)(event);
    }

    pub fn warn(&mut self, warning: Warning) {
        self.emit(Event::Warning(warning));
    }

    /// Reports progress, with the path of the file under way.
    pub fn report(&mut self, current: &str) {
        self.next_progress = self.received.bytes + self.sent.bytes + PROGRESS_BYTES;
        let (percent, received, sent) = (self.percent, self.received, self.sent);
        self.emit(Event::Progress(Progress { percent, received, sent, current }));
    }

    /// Reports progress if it is time to.
    pub fn report_bytes(&mut self, current: &str) {
        if self.received.bytes + self.sent.bytes >= self.next_progress {
            self.report(current);
        }
    }

    /// Hears the caller and the phone's notifications.
    fn look_up(&mut self) -> Result<()> {
        if self.control.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // To ask may cost a millisecond, and phones send messages by the thousand.
        if self.looked_up.is_some_and(|when| when.elapsed() < TICK) {
            return Ok(());
        }
        self.looked_up = Some(Instant::now());
        if self.hear_notifications() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Tells of the notifications that wait; whether the phone's owner cancelled is one.
    pub fn hear_notifications(&mut self) -> bool {
        let mut is_cancelled = false;
        while let Some(name) = (self.control.notifications)() {
            match name.as_str() {
                session::PROMPT_SHOWN => self.emit(Event::PasscodePrompt(true)),
                session::PROMPT_HIDDEN => self.emit(Event::PasscodePrompt(false)),
                session::CANCEL_REQUEST => is_cancelled = true,
                _ => {}
            }
        }
        is_cancelled
    }

    /// Repeats `attempt` while it times out and patience lasts. Nothing at all is the end of the connection.
    fn patiently(&mut self, mut attempt: impl FnMut(&mut Wire) -> io::Result<usize>) -> io::Result<usize> {
        let mut waiting_since = None;
        loop {
            if self.failure.is_none() && self.control.is_cancelled() {
                self.failure = Some(Error::Cancelled);
            }
            if self.failure.is_some() {
                return Err(io::Error::other("the connection to the phone has failed"));
            }
            match attempt(self.wire) {
                Ok(0) => self.failure = Some(Error::Disconnected),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let since = *waiting_since.get_or_insert_with(Instant::now);
                    self.failure = match self.look_up() {
                        Ok(()) if since.elapsed() < self.patience => None,
                        Ok(()) => Some(Error::Timeout),
                        Err(error) => Some(error),
                    };
                }
                Err(error) => self.failure = Some(error.into()),
            }
        }
    }
}

impl Read for Link<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.patiently(|wire| wire.read(into))
    }
}

impl Write for Link<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.patiently(|wire| wire.get_mut().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        // `patiently` takes 0 for the end of the connection.
        self.patiently(|wire| wire.get_mut().flush().map(|()| 1)).map(drop)
    }
}
