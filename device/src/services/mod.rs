//! The phone's smaller services. Each begins with a stream from [`crate::lockdown::Session::start_service`] for its `NAME`.
//!
//! - [`afc`]: the files of the media partition.
//! - [`heartbeat`]: keeps a phone on the network reachable.
//! - [`installation_proxy`]: which apps are installed.
//! - [`notification_proxy`]: notifications between this computer and the phone.
//! - [`springboard`]: the apps' icons.
//! - [`sync_files`]: what a backup or a restore does through AFC.

pub mod afc;
pub mod heartbeat;
pub mod installation_proxy;
pub mod notification_proxy;
pub mod springboard;
pub mod sync_files;

use plist::{Dictionary, Value};

use crate::{Error, property_list};

/// The error of a service that answered otherwise than with what was asked for.
fn refusal(name: &str, answer: &Dictionary) -> Error {
    let told = ["Error", "ErrorDescription"].map(|key| property_list::string(answer, key));
    let code = match told {
        [Some(error), Some(description)] => format!("{error}: {description}"),
        [Some(told), None] | [None, Some(told)] => told,
        [None, None] => {
            let keys: Vec<_> = answer.keys().take(8).collect();
            format!("an unknown message with {keys:?}")
        }
    };
    Error::Service { name: name.to_owned(), code: code.chars().take(300).collect() }
}

/// A request of these fields.
fn request<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Dictionary(Dictionary::from_iter(fields))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Cursor, Read, Write},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::{Stream, frame::write_plist};

    /// A phone that has said everything already, and keeps what it is told. At the end it is silent.
    pub(super) struct Script {
        says: Cursor<Vec<u8>>,
        heard: Arc<Mutex<Vec<u8>>>,
    }

    impl Script {
        pub(super) fn bytes(says: Vec<u8>) -> (Box<dyn Stream>, Arc<Mutex<Vec<u8>>>) {
            let heard = Arc::new(Mutex::new(Vec::new()));
            (Box::new(Script { says: Cursor::new(says), heard: heard.clone() }), heard)
        }

        pub(super) fn messages(says: &[Value]) -> (Box<dyn Stream>, Arc<Mutex<Vec<u8>>>) {
            let mut bytes = Vec::new();
            for message in says {
                write_plist(&mut bytes, message).unwrap();
            }
            Script::bytes(bytes)
        }
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.says.read(buffer)? {
                0 if !buffer.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                length => Ok(length),
            }
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
        fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn refusals_tell_what_came() {
        let says = |fields: &[(&str, &str)]| refusal("s", &fields.iter().copied().collect()).to_string();
        assert_eq!(says(&[("Error", "E"), ("ErrorDescription", "D")]), "s answered: E: D");
        assert_eq!(says(&[("Error", "E")]), "s answered: E");
        assert!(says(&[("Odd", "x")]).contains("Odd"));
    }
}
