//! The muxer that the system runs: usbmuxd on Linux and macOS, Apple Mobile Device Service on Windows.
//!
//! Messages in both directions: four little-endian u32 {length with this header, version 1, type 8, tag}, then a
//! property list in XML (usbmuxd's usbmuxd-proto.h). Each request has a connection of its own; after a `Connect` that
//! succeeds, the connection is the stream.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant},
};
#[cfg(unix)]
use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use plist::{Dictionary, Value};
#[cfg(unix)]
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Connection, DeviceEntry, Event, HotPlug, Mux, canonical_udid};
use crate::{DEFAULT_TIMEOUT, Error, Result, Stream, frame::Partial, property_list};

const HEADER_BYTES: usize = 16;
const VERSION: u32 = 1;
const TYPE_PLIST: u32 = 8;
const MAX_MESSAGE_BYTES: usize = 4 << 20;

const OK: u64 = 0;
const BAD_DEVICE: u64 = 2;
const CONNECTION_REFUSED: u64 = 3;

/// Where usbmuxd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host name or IP address, and a port.
    Tcp(String, u16),
}

impl SocketAddress {
    /// Reads what `USBMUXD_SOCKET_ADDRESS` may hold: `UNIX:/path`, `host:port` or `[::1]:port`. These are what libusbmuxd
    /// reads; what it cannot read it passes over, and here it is an error.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn parse(text: &str) -> Result<Self> {
        let refused = || Error::Address { address: text.to_owned() };
        if let Some(path) = text.strip_prefix("UNIX:") {
            return if path.is_empty() { Err(refused()) } else { Ok(SocketAddress::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let bare = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(refused)?,
            None => host,
        };
        match port.parse() {
            Ok(port) if port > 0 && !bare.is_empty() => Ok(SocketAddress::Tcp(bare.to_owned(), port)),
            _ => Err(refused()),
        }
    }
}

impl Default for SocketAddress {
    /// The system's own: `/var/run/usbmuxd`, on Windows `127.0.0.1:27015`.
    fn default() -> Self {
        if cfg!(windows) {
            SocketAddress::Tcp("127.0.0.1".to_owned(), 27015)
        } else {
            SocketAddress::Unix("/var/run/usbmuxd".into())
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketAddress::Unix(path) => write!(f, "UNIX:{}", path.display()),
            SocketAddress::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            SocketAddress::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A client of usbmuxd.
#[derive(Debug, Clone)]
pub struct Usbmuxd {
    address: SocketAddress,
    timeout: Duration,
}

impl Usbmuxd {
    /// A client of the usbmuxd at `address`; nothing is connected yet.
    pub fn new(address: SocketAddress) -> Self {
        Usbmuxd { address, timeout: DEFAULT_TIMEOUT }
    }

    /// Has every connection be made, every request be taken and every answer arrive within `timeout`; reads and writes of
    /// the streams to phones too until they are told otherwise.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Usbmuxd { timeout, ..self }
    }

    fn open(&self) -> Result<Box<dyn Stream>> {
        self.open_socket().map_err(|source| Error::NoMux { address: self.address.to_string(), source })
    }

    fn open_socket(&self) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            #[cfg(unix)]
            SocketAddress::Unix(path) => {
                let mut socket: Box<dyn Stream> = Box::new(connect_unix(path, self.timeout)?);
                socket.set_timeout(Some(self.timeout))?;
                Ok(socket)
            }
            #[cfg(not(unix))]
            SocketAddress::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            SocketAddress::Tcp(host, port) => {
                let socket = connect_tcp(host, *port, self.timeout)?;
                socket.set_nodelay(true)?;
                let mut socket: Box<dyn Stream> = Box::new(socket);
                socket.set_timeout(Some(self.timeout))?;
                Ok(socket)
            }
        }
    }

    /// Asks on a new connection. The answer is the connection and the dictionary that came.
    fn ask(&self, request: &'static str, fields: Dictionary) -> Result<(Box<dyn Stream>, Dictionary)> {
        let mut stream = self.open()?;
        write_message(&mut *stream, request, fields)?;
        let answer = read_message(&mut *stream, &mut Partial::default())?;
        Ok((stream, answer))
    }

    /// As [`Usbmuxd::ask`], where the answer is a number.
    fn ask_for_result(&self, request: &'static str, fields: Dictionary) -> Result<(Box<dyn Stream>, u64)> {
        let (stream, answer) = self.ask(request, fields)?;
        Ok((stream, result_number(&answer).ok_or_else(|| unknown_answer(request, &answer))?))
    }
}

impl Mux for Usbmuxd {
    fn devices(&self) -> Result<Vec<DeviceEntry>> {
        const REQUEST: &str = "ListDevices";
        let (_, answer) = self.ask(REQUEST, Dictionary::new())?;
        let devices = answer.get("DeviceList").and_then(Value::as_array).ok_or_else(|| refusal(REQUEST, &answer))?;
        // A record that makes no sense is of a device that cannot be reached; the others can.
        Ok(devices.iter().filter_map(|device| device_entry(device.as_dictionary()).ok()).collect())
    }

    fn connect(&self, device: &DeviceEntry, port: u16) -> Result<Box<dyn Stream>> {
        const REQUEST: &str = "Connect";
        let mut fields = Dictionary::new();
        fields.insert("DeviceID".into(), device.device_id.into());
        // The port is in network order within a number in the computer's.
        fields.insert("PortNumber".into(), port.swap_bytes().into());
        match self.ask_for_result(REQUEST, fields)? {
            (stream, OK) => Ok(stream),
            (_, BAD_DEVICE) => Err(Error::NoDevice { udid: Some(device.udid.clone()) }),
            (_, CONNECTION_REFUSED) => Err(Error::Refused { port }),
            (_, code) => Err(Error::Mux { request: REQUEST, code }),
        }
    }

    fn read_pair_record(&self, udid: &str) -> Result<Option<Vec<u8>>> {
        const REQUEST: &str = "ReadPairRecord";
        let (_, mut answer) = self.ask(REQUEST, record_id(udid))?;
        match (answer.remove("PairRecordData"), result_number(&answer)) {
            (Some(Value::Data(record)), _) => Ok(Some(record)),
            (_, Some(BAD_DEVICE)) => Ok(None),
            _ => Err(refusal(REQUEST, &answer)),
        }
    }

    fn save_pair_record(&self, device: &DeviceEntry, record: &[u8]) -> Result<()> {
        const REQUEST: &str = "SavePairRecord";
        let mut fields = record_id(&device.udid);
        fields.insert("PairRecordData".into(), Value::Data(record.to_vec()));
        fields.insert("DeviceID".into(), device.device_id.into());
        match self.ask_for_result(REQUEST, fields)?.1 {
            OK => Ok(()),
            code => Err(Error::Mux { request: REQUEST, code }),
        }
    }

    fn delete_pair_record(&self, udid: &str) -> Result<()> {
        const REQUEST: &str = "DeletePairRecord";
        match self.ask_for_result(REQUEST, record_id(udid))?.1 {
            OK | BAD_DEVICE => Ok(()),
            code => Err(Error::Mux { request: REQUEST, code }),
        }
    }

    fn read_buid(&self) -> Result<Option<String>> {
        const REQUEST: &str = "ReadBUID";
        let (_, answer) = self.ask(REQUEST, Dictionary::new())?;
        match property_list::string(&answer, "BUID") {
            Some(buid) => Ok(Some(buid).filter(|buid| !buid.is_empty())),
            None => Err(refusal(REQUEST, &answer)),
        }
    }

    fn listen(&self) -> Result<Box<dyn HotPlug>> {
        const REQUEST: &str = "Listen";
        match self.ask_for_result(REQUEST, Dictionary::new())? {
            (stream, OK) => Ok(Box::new(Events { stream, partial: Partial::default() })),
            (_, code) => Err(Error::Mux { request: REQUEST, code }),
        }
    }
}

struct Events {
    stream: Box<dyn Stream>,
    /// A message may arrive in parts, across calls.
    partial: Partial,
}

impl HotPlug for Events {
    fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            match read_message(&mut *self.stream, &mut self.partial) {
                // What is not understood tells nothing of the phones that are.
                Ok(message) => match event(&message) {
                    Ok(event) => return Ok(Some(event)),
                    Err(_) if begun.elapsed() >= timeout => return Ok(None),
                    Err(_) => {}
                },
                Err(Error::Timeout) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A Unix socket to a server that has too many to accept waits to be connected. The time-out of writes bounds that on
/// Linux; other systems refuse it at once.
#[cfg(unix)]
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut refused = io::ErrorKind::NotFound.into();
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn record_id(udid: &str) -> Dictionary {
    Dictionary::from_iter([("PairRecordID", udid)])
}

fn write_message(stream: &mut dyn Write, request: &str, mut fields: Dictionary) -> Result<()> {
    for (key, value) in [("MessageType", request), ("ProgName", "heirloom"), ("ClientVersionString", "heirloom")] {
        fields.insert(key.into(), value.into());
    }
    fields.insert("kLibUSBMuxVersion".into(), 3.into());
    let mut message = vec![0; HEADER_BYTES];
    Value::Dictionary(fields)
        .to_writer_xml(&mut message)
        .map_err(|error| Error::protocol(format!("a request that cannot be written: {error}")))?;
    let header = [message.len() as u32, VERSION, TYPE_PLIST, 1].map(u32::to_le_bytes);
    message[..HEADER_BYTES].copy_from_slice(header.as_flattened());
    stream.write_all(&message)?;
    Ok(stream.flush()?)
}

/// Reads one message, whose beginning may be in `partial` already.
fn read_message(stream: &mut dyn Read, partial: &mut Partial) -> Result<Dictionary> {
    let header = partial.fill(stream, HEADER_BYTES)?;
    let word = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[4 * index + byte]));
    // The version is no more than a habit: libusbmuxd does not look at it in what comes either.
    let (length, kind) = (word(0) as usize, word(2));
    if !(HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
        return Err(Error::protocol(format!("usbmuxd sent a message of {length} bytes")));
    }
    if kind != TYPE_PLIST {
        return Err(Error::protocol(format!("usbmuxd sent a message of type {kind}")));
    }
    partial.fill(stream, length)?;
    Ok(property_list::read_dictionary(&partial.take()[HEADER_BYTES..])?)
}

fn event(message: &Dictionary) -> Result<Event> {
    let kind = property_list::string(message, "MessageType").unwrap_or_default();
    match kind.as_str() {
        "Attached" => Ok(Event::Attached(device_entry(Some(message))?)),
        "Detached" => Ok(Event::Detached(device_id(message)?)),
        "Paired" => Ok(Event::Paired(device_id(message)?)),
        _ => Err(Error::protocol(format!("usbmuxd told of an unknown event {kind:?}"))),
    }
}

/// The device within an `Attached` message.
fn device_entry(message: Option<&Dictionary>) -> Result<DeviceEntry> {
    let incomplete = |what| Error::protocol(format!("usbmuxd named a device without {what}"));
    let message = message.ok_or_else(|| incomplete("a description"))?;
    let properties =
        message.get("Properties").and_then(Value::as_dictionary).ok_or_else(|| incomplete("properties"))?;
    let serial = property_list::string(properties, "SerialNumber").unwrap_or_default();
    let udid = canonical_udid(&serial).ok_or_else(|| incomplete("a usable serial number"))?;
    let connection = match properties.get("ConnectionType").and_then(Value::as_string) {
        Some("USB") | None => Connection::Usb,
        Some(_) => Connection::Network,
    };
    Ok(DeviceEntry { device_id: device_id(message).or_else(|_| device_id(properties))?, udid, connection })
}

fn device_id(message: &Dictionary) -> Result<u32> {
    message
        .get("DeviceID")
        .and_then(Value::as_unsigned_integer)
        .and_then(|id| u32::try_from(id).ok())
        .ok_or_else(|| Error::protocol("usbmuxd named a device without a number"))
}

fn result_number(answer: &Dictionary) -> Option<u64> {
    answer.get("Number")?.as_unsigned_integer()
}

fn refusal(request: &'static str, answer: &Dictionary) -> Error {
    match result_number(answer) {
        Some(code) => Error::Mux { request, code },
        None => unknown_answer(request, answer),
    }
}

fn unknown_answer(request: &str, answer: &Dictionary) -> Error {
    let keys: Vec<_> = answer.keys().take(8).map(|key| key.chars().take(40).collect::<String>()).collect();
    Error::protocol(format!("usbmuxd answered {request} with {keys:?}"))
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, net::TcpListener, thread};

    use proptest::prelude::*;

    use super::*;

    /// A message from usbmuxd of this XML.
    fn message(xml: &str) -> Vec<u8> {
        let xml = format!("<?xml version=\"1.0\"?><plist version=\"1.0\">{xml}</plist>");
        let mut bytes = Vec::new();
        for word in [xml.len() as u32 + 16, 1, 8, 1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        [bytes, xml.into_bytes()].concat()
    }

    const PHONE: &str = "<dict><key>DeviceID</key><integer>7</integer><key>MessageType</key><string>Attached</string>\
        <key>Properties</key><dict><key>ConnectionType</key><string>USB</string><key>DeviceID</key><integer>7</integer>\
        <key>LocationID</key><integer>0</integer><key>ProductID</key><integer>4776</integer>\
        <key>SerialNumber</key><string>00008030001A2B3C4D5E6F70</string></dict></dict>";

    /// A header and what follows it.
    type Request = (Vec<u8>, Dictionary);

    /// A usbmuxd that answers each connection with the next of these bytes, and hands out the requests.
    fn usbmuxd(answers: Vec<Vec<u8>>) -> (Usbmuxd, thread::JoinHandle<Vec<Request>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SocketAddress::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let serve = |answer: Vec<u8>| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut header = [0; 16];
                socket.read_exact(&mut header).unwrap();
                let mut body = vec![0; u32::from_le_bytes(*header.first_chunk().unwrap()) as usize - 16];
                socket.read_exact(&mut body).unwrap();
                socket.write_all(&answer).unwrap();
                (header.to_vec(), property_list::read_dictionary(&body).unwrap())
            };
            answers.into_iter().map(serve).collect()
        });
        (Usbmuxd::new(address).with_timeout(Duration::from_secs(5)), server)
    }

    fn phone() -> DeviceEntry {
        DeviceEntry { device_id: 7, udid: "00008030-001A2B3C4D5E6F70".into(), connection: Connection::Usb }
    }

    #[test]
    fn addresses_are_read_in_every_form_and_nothing_else() {
        let parse = |text| SocketAddress::parse(text);
        assert_eq!(parse("UNIX:/run/mux").unwrap(), SocketAddress::Unix("/run/mux".into()));
        for (text, host, port) in [("localhost:27015", "localhost", 27015), ("[::1]:1", "::1", 1)] {
            let address = parse(text).unwrap();
            assert_eq!(address, SocketAddress::Tcp(host.into(), port));
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(parse("::1:5").unwrap(), SocketAddress::Tcp("::1".into(), 5));
        for text in
            ["", "UNIX:", "/run/mux", "host", "host:", ":1", "host:0", "host:65536", "[::1:5", "[]:5", "/run/mux:x"]
        {
            assert!(matches!(parse(text), Err(Error::Address { .. })), "{text}");
        }
    }

    #[test]
    fn connected_phones_are_listed() {
        let list = format!("<dict><key>DeviceList</key><array>{PHONE}</array></dict>");
        let (mux, server) = usbmuxd(vec![message(&list)]);
        assert_eq!(mux.devices().unwrap(), [phone()]);
        let (header, request) = server.join().unwrap().remove(0);
        assert_eq!(header[4..], [1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(request.get("MessageType").unwrap().as_string(), Some("ListDevices"));
    }

    #[test]
    fn a_connection_becomes_the_stream_and_keeps_what_came_with_the_answer() {
        let ok =
            message("<dict><key>MessageType</key><string>Result</string><key>Number</key><integer>0</integer></dict>");
        let (mux, server) = usbmuxd(vec![[ok, b"hello".to_vec()].concat()]);
        let mut stream = mux.connect(&phone(), 62078).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        let (_, request) = server.join().unwrap().remove(0);
        // 62078 is 0xf27e: usbmuxd's own clients send 0x7ef2.
        assert_eq!(request.get("PortNumber").unwrap().as_unsigned_integer(), Some(0x7ef2));
        assert_eq!(request.get("DeviceID").unwrap().as_unsigned_integer(), Some(7));
    }

    #[test]
    fn refusals_say_what_was_refused() {
        let result = |number: u64| message(&format!("<dict><key>Number</key><integer>{number}</integer></dict>"));
        let (mux, _) =
            usbmuxd(vec![result(3), result(2), result(6), result(2), result(2), result(1), message("<dict/>")]);
        assert!(matches!(mux.connect(&phone(), 5).map(drop), Err(Error::Refused { port: 5 })));
        assert!(matches!(mux.connect(&phone(), 5).map(drop), Err(Error::NoDevice { .. })));
        assert!(matches!(mux.connect(&phone(), 5).map(drop), Err(Error::Mux { code: 6, .. })));
        assert_eq!(mux.read_pair_record("x").unwrap(), None);
        mux.delete_pair_record("x").unwrap();
        assert!(matches!(mux.read_buid(), Err(Error::Mux { code: 1, .. })));
        assert!(mux.read_buid().unwrap_err().to_string().contains("ReadBUID"));
    }

    #[test]
    fn pair_records_pass_unchanged() {
        let record = message("<dict><key>PairRecordData</key><data>AAEC/w==</data></dict>");
        let ok = message("<dict><key>Number</key><integer>0</integer></dict>");
        let (mux, server) = usbmuxd(vec![record, ok]);
        assert_eq!(mux.read_pair_record(&phone().udid).unwrap().unwrap(), [0, 1, 2, 255]);
        mux.save_pair_record(&phone(), &[0, 1, 2, 255]).unwrap();
        let (_, save) = server.join().unwrap().remove(1);
        assert_eq!(save.get("PairRecordID").unwrap().as_string(), Some(&*phone().udid));
        assert_eq!(save.get("PairRecordData").unwrap().as_data(), Some(&[0, 1, 2, 255][..]));
    }

    #[test]
    fn phones_come_and_go_and_silence_is_no_error() {
        let ok = message("<dict><key>Number</key><integer>0</integer></dict>");
        let gone = message(
            "<dict><key>MessageType</key><string>Detached</string><key>DeviceID</key><integer>7</integer></dict>",
        );
        let (mux, _) = usbmuxd(vec![[ok, message(PHONE), gone].concat()]);
        let mut events = mux.listen().unwrap();
        assert_eq!(events.next(Duration::from_secs(5)).unwrap(), Some(Event::Attached(phone())));
        assert_eq!(events.next(Duration::from_secs(5)).unwrap(), Some(Event::Detached(7)));
        assert!(matches!(events.next(Duration::from_secs(5)), Err(Error::Disconnected)));
    }

    #[test]
    fn odd_record_spoils_no_other() {
        let traversal = PHONE.replace("00008030001A2B3C4D5E6F70", "../../etc");
        let list = format!("<dict><key>DeviceList</key><array><true/><dict/>{traversal}{PHONE}</array></dict>");
        let (mux, _) = usbmuxd(vec![message(&list)]);
        assert_eq!(mux.devices().unwrap(), [phone()]);
    }

    #[test]
    fn unknown_event_ends_no_listening() {
        let ok = message("<dict><key>Number</key><integer>0</integer></dict>");
        let odd = [
            message("<dict><key>MessageType</key><string>Dancing</string></dict>"),
            message("<dict><key>MessageType</key><string>Attached</string></dict>"),
            message("<dict/>"),
        ];
        let (mux, _) = usbmuxd(vec![[vec![ok], odd.into(), vec![message(PHONE)]].concat().concat()]);
        let mut events = mux.listen().unwrap();
        assert_eq!(events.next(Duration::from_secs(5)).unwrap(), Some(Event::Attached(phone())));
        assert!(matches!(events.next(Duration::from_secs(5)), Err(Error::Disconnected)));
    }

    #[test]
    fn an_event_in_two_parts_survives_the_time_between_them() {
        struct Parts(Vec<io::Result<Vec<u8>>>);
        impl Read for Parts {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let part = self.0.remove(0)?;
                let length = part.len().min(buffer.len());
                buffer[..length].copy_from_slice(&part[..length]);
                if length < part.len() {
                    self.0.insert(0, Ok(part[length..].to_vec()));
                }
                Ok(length)
            }
        }
        let whole = message(PHONE);
        for cut in [1, 15, 16, 17, whole.len() - 1] {
            let late = io::ErrorKind::WouldBlock.into();
            let mut parts = Parts(vec![Ok(whole[..cut].to_vec()), Err(late), Ok(whole[cut..].to_vec())]);
            let mut partial = Partial::default();
            assert!(matches!(read_message(&mut parts, &mut partial), Err(Error::Timeout)));
            let read = read_message(&mut parts, &mut partial).unwrap();
            assert_eq!(event(&read).unwrap(), Event::Attached(phone()), "{cut}");
        }
    }

    #[test]
    fn answer_of_any_version_is_read() {
        for version in [0_u32, 1, 2] {
            let mut bytes = message(PHONE);
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            let read = read_message(&mut Cursor::new(bytes), &mut Partial::default()).unwrap();
            assert_eq!(event(&read).unwrap(), Event::Attached(phone()), "{version}");
        }
    }

    #[test]
    fn hostile_messages_are_refused() {
        let read = |bytes: &[u8]| read_message(&mut Cursor::new(bytes), &mut Partial::default());
        let header = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        for (words, says) in
            [([u32::MAX, 1, 8, 1], "4294967295"), ([15, 1, 8, 1], "15 bytes"), ([20, 1, 1, 1], "type 1")]
        {
            let refused = read(&header(words)).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
        let traversal = PHONE.replace("00008030001A2B3C4D5E6F70", "../../etc");
        assert!(event(&read(&message(&traversal)).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            let _ = read_message(&mut Cursor::new(&bytes), &mut Partial::default());
            let mut phone = message(PHONE);
            phone.truncate(cut.index(phone.len()));
            prop_assert!(read_message(&mut Cursor::new(&phone), &mut Partial::default()).is_err());
        }
    }
}
