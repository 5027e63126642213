//! `com.apple.mobile.heartbeat`: the phone says {Command Marco, Interval seconds} now and then, and stays reachable over
//! the network while {Command Polo} is answered. A cable needs none.

use std::time::Duration;

use plist::Value;

use crate::{
    DEFAULT_TIMEOUT, Error, Result, Stream,
    frame::{Partial, SMALL_MESSAGE_BYTES, write_plist},
    property_list,
};

use super::request;

/// The service's name.
pub const NAME: &str = "com.apple.mobile.heartbeat";
/// The longest pause that a phone may announce.
const MAX_INTERVAL_SECONDS: u64 = 3600;

/// A connection to the service.
pub struct Heartbeat {
    stream: Box<dyn Stream>,
    partial: Partial,
}

/// What the phone said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// It asked, and was answered. It means to ask again within this time.
    Alive(Duration),
    /// It goes to sleep; the connection ends.
    Leaving,
}

impl Heartbeat {
    /// Over the stream of a started service.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Heartbeat { stream, partial: Partial::default() }
    }

    /// Waits for one beat and answers it.
    ///
    /// # Errors
    /// [`Error::Timeout`] (another call may follow), and what the connection or the phone says.
    pub fn beat(&mut self, timeout: Duration) -> Result<Beat> {
        self.stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let message = self.partial.read_plist(&mut *self.stream, SMALL_MESSAGE_BYTES)?;
        let message = message.into_dictionary().ok_or(crate::PlistError::NotADictionary)?;
        match property_list::string(&message, "Command").as_deref() {
            Some("Marco") => {
                let seconds = message.get("Interval").and_then(Value::as_unsigned_integer).unwrap_or(0);
                write_plist(&mut *self.stream, &request([("Command", "Polo".into())]))?;
                Ok(Beat::Alive(Duration::from_secs(seconds.min(MAX_INTERVAL_SECONDS))))
            }
            Some("SleepyTime") => Ok(Beat::Leaving),
            _ => Err(super::refusal(NAME, &message)),
        }
    }

    /// Answers until the phone leaves, falls silent, or `keep_going`, asked between beats, says false.
    ///
    /// # Errors
    /// As [`Heartbeat::beat`].
    pub fn run(mut self, keep_going: &mut dyn FnMut() -> bool) -> Result<()> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let (mut silent, mut allowed) = (Duration::ZERO, DEFAULT_TIMEOUT);
        while keep_going() {
            match self.beat(PATIENCE) {
                Ok(Beat::Alive(interval)) => (silent, allowed) = (Duration::ZERO, interval + DEFAULT_TIMEOUT),
                Ok(Beat::Leaving) => return Ok(()),
                Err(Error::Timeout) if silent < allowed => silent += PATIENCE,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Script, *};
    use crate::frame::read_plist;

    #[test]
    fn marco_is_answered_with_polo_until_the_phone_sleeps() {
        let marco = request([("Command", "Marco".into()), ("Interval", 10.into())]);
        let sleep = request([("Command", "SleepyTime".into())]);
        let (stream, heard) = Script::messages(&[marco.clone(), marco, sleep]);
        let mut heartbeat = Heartbeat::new(stream);
        assert_eq!(heartbeat.beat(Duration::ZERO).unwrap(), Beat::Alive(Duration::from_secs(10)));
        heartbeat.run(&mut || true).unwrap();
        let heard = heard.lock().unwrap();
        let mut heard = &heard[..];
        for _ in 0..2 {
            assert_eq!(read_plist(&mut heard, 100).unwrap(), request([("Command", "Polo".into())]));
        }
        assert!(heard.is_empty());
    }

    #[test]
    fn anything_else_is_named_and_silence_is_bounded() {
        let (stream, _) = Script::messages(&[request([("Command", "Jump".into())])]);
        assert!(matches!(Heartbeat::new(stream).beat(Duration::ZERO), Err(Error::Service { .. })));
        let (stream, _) = Script::messages(&[]);
        assert!(matches!(Heartbeat::new(stream).run(&mut || true), Err(Error::Timeout)));
    }
}
