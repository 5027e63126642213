//! `com.apple.mobile.notification_proxy`: posts notifications on the phone and relays those that it is asked to observe.
//!
//! {Command PostNotification | ObserveNotification, Name} to the phone, {Command RelayNotification, Name} or {Command
//! ProxyDeath} from it; nothing is acknowledged.

use std::time::Duration;

use crate::{
    Error, Result, Stream,
    frame::{Partial, SMALL_MESSAGE_BYTES, write_xml_plist},
    mobilebackup2::Notifications,
    property_list,
};

use super::request;

/// The service's name.
pub const NAME: &str = "com.apple.mobile.notification_proxy";

/// A connection to the service.
pub struct NotificationProxy {
    stream: Box<dyn Stream>,
    partial: Partial,
}

impl NotificationProxy {
    /// Over the stream of a started service.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        NotificationProxy { stream, partial: Partial::default() }
    }

    /// Posts a notification on the phone.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub fn post(&mut self, name: &str) -> Result<()> {
        self.command("PostNotification", name)
    }

    /// Has notifications of this name relayed from now on.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub fn observe(&mut self, name: &str) -> Result<()> {
        self.command("ObserveNotification", name)
    }

    /// The name of the next notification; `None` if none came in this time.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the service ended, and what the connection says.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<String>> {
        self.stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let message = match self.partial.read_plist(&mut *self.stream, SMALL_MESSAGE_BYTES) {
            Err(Error::Timeout) => return Ok(None),
            message => message?.into_dictionary().ok_or(crate::PlistError::NotADictionary)?,
        };
        match property_list::string(&message, "Command").as_deref() {
            Some("RelayNotification") => property_list::string(&message, "Name")
                .map(Some)
                .ok_or_else(|| Error::protocol("a notification without a name")),
            Some("ProxyDeath") => Err(Error::Disconnected),
            _ => Err(super::refusal(NAME, &message)),
        }
    }

    fn command(&mut self, command: &str, name: &str) -> Result<()> {
        write_xml_plist(&mut *self.stream, &request([("Command", command.into()), ("Name", name.into())]))
    }
}

impl Notifications for NotificationProxy {
    fn observe(&mut self, name: &str) -> Result<()> {
        NotificationProxy::observe(self, name)
    }

    fn post(&mut self, name: &str) -> Result<()> {
        NotificationProxy::post(self, name)
    }

    /// A service that has ended has nothing more to tell.
    fn poll(&mut self) -> Option<String> {
        self.next(Duration::ZERO).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Script, *};
    use crate::frame::read_plist;

    #[test]
    fn notifications_go_both_ways() {
        let relay = request([("Command", "RelayNotification".into()), ("Name", "a.b".into())]);
        let (stream, heard) = Script::messages(&[relay]);
        let mut proxy = NotificationProxy::new(stream);
        proxy.observe("a.b").unwrap();
        proxy.post("c.d").unwrap();
        assert_eq!(proxy.next(Duration::ZERO).unwrap().as_deref(), Some("a.b"));
        assert_eq!(proxy.next(Duration::ZERO).unwrap(), None);
        let heard = heard.lock().unwrap();
        let mut heard = &heard[..];
        for (command, name) in [("ObserveNotification", "a.b"), ("PostNotification", "c.d")] {
            let expected = request([("Command", command.into()), ("Name", name.into())]);
            assert_eq!(read_plist(&mut heard, 1000).unwrap(), expected);
        }
    }

    #[test]
    fn the_end_of_the_service_and_nonsense_are_errors() {
        let of = |message| NotificationProxy::new(Script::messages(&[message]).0).next(Duration::ZERO);
        assert!(matches!(of(request([("Command", "ProxyDeath".into())])), Err(Error::Disconnected)));
        assert!(matches!(of(request([("Command", "Odd".into())])), Err(Error::Service { .. })));
        assert!(matches!(of(request([("Command", "RelayNotification".into())])), Err(Error::Protocol { .. })));
        assert!(matches!(of("text".into()), Err(Error::Plist(_))));
    }
}
