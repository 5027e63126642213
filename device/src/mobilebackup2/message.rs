//! Every message of DeviceLink, as mobilebackup2 uses it: arrays whose first item is the message's name.
//!
//! What the phone says is parsed into [`DeviceMessage`]; what the host says is made by the functions below.

use plist::{Dictionary, Value};

use super::host_dir::{Kind, Listing};
use crate::{Error, Result};

/// Stands in a message where a text or a value is absent.
const ABSENT: &str = "___EmptyParameterString___";

/// What a phone says.
///
/// `percent` is the phone's own estimate for the whole operation, 0 to 100; it does not follow the bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceMessage {
    /// `DLMessageVersionExchange`: the version of DeviceLink; 400.0 since iOS 14.
    VersionExchange {
        /// The part that must be agreed on.
        major: u64,
        /// The other part.
        minor: u64,
    },
    /// `DLMessageDeviceReady`: the version was accepted.
    DeviceReady,
    /// `DLMessageProcessMessage`: the answer to the request, or to the greeting.
    Process(Response),
    /// `DLMessageDownloadFiles`: send these files.
    DownloadFiles {
        /// As the phone wrote them.
        paths: Vec<String>,
        /// See above.
        percent: Option<f64>,
    },
    /// `DLMessageUploadFiles`: files follow, outside of messages.
    UploadFiles {
        /// See above.
        percent: Option<f64>,
        /// What this one message brings.
        total_bytes: Option<u64>,
    },
    /// `DLMessageGetFreeDiskSpace`.
    GetFreeDiskSpace,
    /// `DLMessagePurgeDiskSpace`: make room.
    PurgeDiskSpace {
        /// How much.
        bytes: u64,
    },
    /// `DLContentsOfDirectory`; so spelled.
    ContentsOfDirectory {
        /// As the phone wrote it.
        path: String,
    },
    /// `DLMessageCreateDirectory`, with its parents.
    CreateDirectory {
        /// As the phone wrote it.
        path: String,
    },
    /// `DLMessageMoveItems`, or `DLMessageMoveFiles`.
    MoveItems {
        /// From, to; as the phone wrote them, in its order.
        pairs: Vec<(String, String)>,
        /// See above.
        percent: Option<f64>,
    },
    /// `DLMessageRemoveItems`, or `DLMessageRemoveFiles`.
    RemoveItems {
        /// As the phone wrote them.
        paths: Vec<String>,
        /// See above.
        percent: Option<f64>,
    },
    /// `DLMessageCopyItem`: a file or a tree.
    CopyItem {
        /// As the phone wrote it.
        from: String,
        /// As the phone wrote it.
        to: String,
    },
    /// `DLMessageDisconnect`: the phone ends the conversation.
    Disconnect,
    /// Any other message.
    Unknown {
        /// Its first item.
        name: String,
    },
}

/// The dictionary of a `DLMessageProcessMessage` from the phone.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// 0 is success; else a number of MBErrorDomain.
    pub error_code: i64,
    /// The phone's words for it.
    pub description: Option<String>,
    /// In the answer to the greeting: the version of mobilebackup2.
    pub protocol_version: Option<f64>,
}

impl DeviceMessage {
    /// Parses one message.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is no message, or a known one without what it must have.
    pub fn parse(value: Value) -> Result<Self> {
        let Value::Array(items) = value else {
            return Err(Error::protocol("a DeviceLink message that is no array"));
        };
        let mut items = Items(items);
        let name = items.text(0).ok_or_else(|| Error::protocol("a DeviceLink message without a name"))?;
        let parsed = match name.as_str() {
            "DLMessageVersionExchange" => {
                items.number(1).map(|major| Self::VersionExchange { major, minor: items.number(2).unwrap_or(0) })
            }
            "DLMessageDeviceReady" => Some(Self::DeviceReady),
            "DLMessageProcessMessage" => items.dictionary(1).and_then(|d| Response::parse(&d)).map(Self::Process),
            "DLMessageDownloadFiles" => {
                items.texts(1).map(|paths| Self::DownloadFiles { paths, percent: items.percent(3) })
            }
            "DLMessageUploadFiles" => {
                Some(Self::UploadFiles { percent: items.percent(2), total_bytes: items.number(3) })
            }
            "DLMessageGetFreeDiskSpace" => Some(Self::GetFreeDiskSpace),
            "DLMessagePurgeDiskSpace" => items.number(1).map(|bytes| Self::PurgeDiskSpace { bytes }),
            "DLContentsOfDirectory" => items.text(1).map(|path| Self::ContentsOfDirectory { path }),
            "DLMessageCreateDirectory" => items.text(1).map(|path| Self::CreateDirectory { path }),
            "DLMessageMoveItems" | "DLMessageMoveFiles" => {
                items.text_pairs(1).map(|pairs| Self::MoveItems { pairs, percent: items.percent(3) })
            }
            "DLMessageRemoveItems" | "DLMessageRemoveFiles" => {
                items.texts(1).map(|paths| Self::RemoveItems { paths, percent: items.percent(3) })
            }
            "DLMessageCopyItem" => items.text(1).zip(items.text(2)).map(|(from, to)| Self::CopyItem { from, to }),
            "DLMessageDisconnect" => Some(Self::Disconnect),
            _ => Some(Self::Unknown { name: name.clone() }),
        };
        parsed.ok_or_else(|| Error::protocol(format!("a {name} without what it must have")))
    }

    /// The phone's estimate of how far the whole operation is, 0 to 100.
    pub fn percent(&self) -> Option<f64> {
        match self {
            Self::DownloadFiles { percent, .. }
            | Self::UploadFiles { percent, .. }
            | Self::MoveItems { percent, .. }
            | Self::RemoveItems { percent, .. } => *percent,
            _ => None,
        }
    }
}

impl Response {
    fn parse(dictionary: &Dictionary) -> Option<Self> {
        let text = |key: &str| dictionary.get(key).and_then(Value::as_string).map(str::to_owned);
        Some(Response {
            error_code: dictionary.get("ErrorCode")?.as_signed_integer()?,
            description: text("ErrorDescription").filter(|text| text != ABSENT),
            protocol_version: dictionary.get("ProtocolVersion").and_then(real),
        })
    }
}

/// The items of a message, each taken out at most once.
struct Items(Vec<Value>);

impl Items {
    fn take(&mut self, index: usize) -> Option<Value> {
        Some(std::mem::replace(self.0.get_mut(index)?, Value::Boolean(false)))
    }

    fn text(&mut self, index: usize) -> Option<String> {
        self.take(index)?.into_string()
    }

    fn number(&self, index: usize) -> Option<u64> {
        self.0.get(index)?.as_unsigned_integer()
    }

    fn percent(&self, index: usize) -> Option<f64> {
        Some(real(self.0.get(index)?)?.clamp(0.0, 100.0))
    }

    fn dictionary(&mut self, index: usize) -> Option<Dictionary> {
        self.take(index)?.into_dictionary()
    }

    /// The texts of a list. Anything else in it is passed over, as libimobiledevice does.
    fn texts(&mut self, index: usize) -> Option<Vec<String>> {
        Some(self.take(index)?.into_array()?.into_iter().filter_map(Value::into_string).collect())
    }

    /// The same for a dictionary.
    fn text_pairs(&mut self, index: usize) -> Option<Vec<(String, String)>> {
        Some(self.dictionary(index)?.into_iter().filter_map(|(key, value)| Some((key, value.into_string()?))).collect())
    }
}

/// A finite number: phones write progress as integers and as reals.
fn real(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Real(number) => *number,
        Value::Integer(number) => number.as_signed().map(|number| number as f64)?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// Accepts the phone's version of DeviceLink, whichever it is: a host that insists on its own is refused by phones that
/// are newer than it.
pub(super) fn version_ok(major: u64) -> Value {
    Value::Array(vec!["DLMessageVersionExchange".into(), "DLVersionsOk".into(), major.into()])
}

/// `DLMessageProcessMessage` with this dictionary.
pub(super) fn process(dictionary: Dictionary) -> Value {
    Value::Array(vec!["DLMessageProcessMessage".into(), Value::Dictionary(dictionary)])
}

/// The greeting: the versions of mobilebackup2 that this host speaks.
pub(super) fn hello() -> Value {
    let mut dictionary = Dictionary::new();
    dictionary.insert("MessageName".into(), "Hello".into());
    let versions = vec![Value::Real(2.0), Value::Real(2.1)];
    dictionary.insert("SupportedProtocolVersions".into(), Value::Array(versions));
    process(dictionary)
}

/// The end of the conversation.
pub(super) fn disconnect() -> Value {
    Value::Array(vec!["DLMessageDisconnect".into(), ABSENT.into()])
}

/// The one answer that each request of the phone gets: `DLMessageStatusResponse`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status {
    /// 0, or a negative number: see [`Fault::code`](super::files::Fault::code).
    pub code: i64,
    /// Why, if it failed.
    pub text: Option<String>,
    /// What was asked for.
    pub payload: Payload,
}

/// What an answer carries.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    /// Nothing, for messages that return nothing.
    Absent,
    /// Names and what they are, or an empty dictionary.
    Dictionary(Dictionary),
    /// A number of bytes.
    Bytes(u64),
}

impl Status {
    /// Success.
    pub fn ok(payload: Payload) -> Self {
        Status { code: 0, text: None, payload }
    }

    /// The message. Negative codes are written as 64-bit two's complement.
    pub fn into_value(self) -> Value {
        let text = self.text.as_deref().unwrap_or(ABSENT);
        let payload = match self.payload {
            Payload::Absent => ABSENT.into(),
            Payload::Dictionary(dictionary) => Value::Dictionary(dictionary),
            Payload::Bytes(bytes) => bytes.into(),
        };
        Value::Array(vec!["DLMessageStatusResponse".into(), self.code.into(), text.into(), payload])
    }
}

/// The payload of the answer to `DLContentsOfDirectory`.
pub(super) fn listing(entries: Listing) -> Payload {
    let mut dictionary = Dictionary::new();
    for entry in entries {
        let kind = match entry.stat.kind {
            Kind::Directory => "DLFileTypeDirectory",
            Kind::File => "DLFileTypeRegular",
            Kind::Other => "DLFileTypeUnknown",
        };
        let mut about = Dictionary::new();
        about.insert("DLFileType".into(), kind.into());
        about.insert("DLFileSize".into(), entry.stat.bytes.into());
        about.insert("DLFileModificationDate".into(), Value::Date(entry.stat.modified.into()));
        dictionary.insert(entry.name, Value::Dictionary(about));
    }
    Payload::Dictionary(dictionary)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::mobilebackup2::{DirEntry, Stat};

    fn array(items: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(items.into_iter().collect())
    }

    fn dictionary(pairs: &[(&str, Value)]) -> Value {
        Value::Dictionary(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn parse(items: impl IntoIterator<Item = Value>) -> DeviceMessage {
        DeviceMessage::parse(array(items)).unwrap()
    }

    #[test]
    fn both_spellings_of_moving_and_removing_are_read() {
        for spelling in ["DLMessageMoveItems", "DLMessageMoveFiles"] {
            let message = [spelling.into(), dictionary(&[("a", "b".into())]), dictionary(&[]), 17.into()];
            let expected = DeviceMessage::MoveItems { pairs: vec![("a".into(), "b".into())], percent: Some(17.0) };
            assert_eq!(parse(message), expected);
        }
        for spelling in ["DLMessageRemoveItems", "DLMessageRemoveFiles"] {
            let message = [spelling.into(), array(["a".into()]), dictionary(&[]), Value::Real(17.5)];
            let expected = DeviceMessage::RemoveItems { paths: vec!["a".into()], percent: Some(17.5) };
            assert_eq!(parse(message), expected);
        }
    }

    #[test]
    fn progress_is_where_each_message_has_it() {
        let callbacks = dictionary(&[("DLDeviceIOCallbacks", 4_955_806_704_u64.into())]);
        let upload = ["DLMessageUploadFiles".into(), callbacks.clone(), Value::Real(13.061936), 6_878_833.into()];
        let expected = DeviceMessage::UploadFiles { percent: Some(13.061936), total_bytes: Some(6_878_833) };
        assert_eq!(parse(upload), expected);
        let download = ["DLMessageDownloadFiles".into(), array(["u/f".into()]), callbacks, 3.into(), 9.into()];
        let expected = DeviceMessage::DownloadFiles { paths: vec!["u/f".into()], percent: Some(3.0) };
        assert_eq!(parse(download), expected);
    }

    #[test]
    fn progress_is_a_percentage_or_nothing() {
        for (sent, expected) in [(1e9, Some(100.0)), (-1.0, Some(0.0)), (f64::NAN, None), (f64::INFINITY, None)] {
            let message = parse(["DLMessageUploadFiles".into(), dictionary(&[]), Value::Real(sent)]);
            assert_eq!(message.percent(), expected, "{sent}");
        }
    }

    #[test]
    fn unknown_messages_keep_their_name() {
        let message = parse(["DLMessageOfTomorrow".into(), 7.into()]);
        assert_eq!(message, DeviceMessage::Unknown { name: "DLMessageOfTomorrow".into() });
    }

    #[test]
    fn known_messages_without_their_parts_are_refused_by_name() {
        for name in [
            "DLMessageVersionExchange",
            "DLMessageProcessMessage",
            "DLMessageDownloadFiles",
            "DLMessagePurgeDiskSpace",
            "DLContentsOfDirectory",
            "DLMessageCreateDirectory",
            "DLMessageMoveItems",
            "DLMessageRemoveFiles",
            "DLMessageCopyItem",
        ] {
            for message in [vec![name.into()], vec![name.into(), Value::Boolean(true)]] {
                let refused = DeviceMessage::parse(array(message)).unwrap_err().to_string();
                assert!(refused.contains(name), "{refused}");
            }
        }
    }

    #[test]
    fn what_is_no_text_in_a_list_is_passed_over() {
        let list = || array([7.into(), "a".into(), Value::Boolean(true), "b".into(), array(["c".into()])]);
        let texts = || vec!["a".to_owned(), "b".to_owned()];
        let expected = DeviceMessage::DownloadFiles { paths: texts(), percent: None };
        assert_eq!(parse(["DLMessageDownloadFiles".into(), list()]), expected);
        let expected = DeviceMessage::RemoveItems { paths: texts(), percent: None };
        assert_eq!(parse(["DLMessageRemoveItems".into(), list()]), expected);
        let pairs = dictionary(&[("from", "to".into()), ("odd", 7.into())]);
        let expected = DeviceMessage::MoveItems { pairs: vec![("from".into(), "to".into())], percent: None };
        assert_eq!(parse(["DLMessageMoveItems".into(), pairs]), expected);
    }

    #[test]
    fn a_final_message_without_a_code_is_no_success() {
        let message = array(["DLMessageProcessMessage".into(), dictionary(&[("MessageName", "Response".into())])]);
        assert!(DeviceMessage::parse(message).is_err());
    }

    #[test]
    fn codes_are_two_s_complement_in_eight_bytes() {
        let status = Status { code: -6, text: Some("gone".into()), payload: Payload::Dictionary(Dictionary::new()) };
        let mut bytes = Vec::new();
        status.into_value().to_writer_binary(&mut bytes).unwrap();
        let minus_six = [0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa];
        assert!(bytes.windows(9).any(|window| window == minus_six));
    }

    #[test]
    fn what_is_absent_is_the_placeholder() {
        let expected = ["DLMessageStatusResponse".into(), 0.into(), ABSENT.into(), ABSENT.into()];
        assert_eq!(Status::ok(Payload::Absent).into_value(), array(expected));
        let expected = ["DLMessageStatusResponse".into(), 0.into(), ABSENT.into(), 5.into()];
        assert_eq!(Status::ok(Payload::Bytes(5)).into_value(), array(expected));
    }

    #[test]
    fn a_listing_states_kind_size_and_date() {
        let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let entry = |name: &str, kind, bytes| DirEntry { name: name.into(), stat: Stat { kind, bytes, modified } };
        let Payload::Dictionary(listed) = listing(vec![entry("00", Kind::Directory, 0), entry("empty", Kind::File, 0)])
        else {
            panic!("no dictionary")
        };
        let about = |kind: &str| {
            dictionary(&[
                ("DLFileType", kind.into()),
                ("DLFileSize", 0.into()),
                ("DLFileModificationDate", Value::Date(modified.into())),
            ])
        };
        assert_eq!(listed.get("00").unwrap(), &about("DLFileTypeDirectory"));
        assert_eq!(listed.get("empty").unwrap(), &about("DLFileTypeRegular"));
        assert_eq!(listed.len(), 2);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::Real),
            any::<bool>().prop_map(Value::Boolean),
            ".*".prop_map(Value::String),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((".*", inner), 0..4)
                    .prop_map(|pairs| Value::Dictionary(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_ends_in_a_verdict(
            name in prop::sample::select(vec![
                "DLMessageVersionExchange", "DLMessageProcessMessage", "DLMessageDownloadFiles",
                "DLMessageUploadFiles", "DLMessagePurgeDiskSpace", "DLContentsOfDirectory",
                "DLMessageMoveItems", "DLMessageRemoveItems", "DLMessageCopyItem", "other",
            ]),
            items in prop::collection::vec(any_value(), 0..5),
            bare in any_value(),
        ) {
            let message = array(std::iter::once(Value::from(name)).chain(items));
            if let Ok(message) = DeviceMessage::parse(message) {
                prop_assert!(message.percent().is_none_or(|percent| (0.0..=100.0).contains(&percent)));
            }
            let _ = DeviceMessage::parse(bare);
        }
    }
}
