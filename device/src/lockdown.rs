//! lockdownd, the phone's front door: it answers questions, pairs, and starts services.
//!
//! Messages are dictionaries {Label, ProtocolVersion "2", Request, ...}, answered by {Request, Result | Error, ...}, in
//! the frames of [`crate::frame`] on port 62078. Before a session they are in the clear; within one, over TLS.

use std::{thread, time::Duration};

use plist::{Dictionary, Value};

use crate::{
    DEFAULT_TIMEOUT, Error, Result, Stream,
    frame::{SMALL_MESSAGE_BYTES, read_dictionary, write_xml_plist},
    mux::{Connection, DeviceEntry, Mux},
    pair_record::PairRecord,
    pairing::{self, Candidate},
    property_list,
    tls::TlsConfig,
};

/// Where lockdownd listens on every phone.
pub const PORT: u16 = 62078;
/// What lockdownd answers to QueryType.
pub const TYPE: &str = "com.apple.mobile.lockdown";

/// The first iOS that agrees on a TLS that is still safe, and whose backups have a Manifest.db.
pub const OLDEST_IOS: u32 = 10;

/// How often the phone is asked whether its trust dialog was answered.
const PAIRING_POLL: Duration = Duration::from_secs(1);

/// A connection to lockdownd, before a session.
pub struct Lockdown<'m> {
    mux: &'m dyn Mux,
    device: DeviceEntry,
    stream: Box<dyn Stream>,
    label: String,
    timeout: Duration,
    /// Whether the phone may still turn out not to know this computer: what it does then is to close the connection.
    is_on_trial: bool,
}

/// A session: the phone has proved that it is the paired one, and so has this computer.
pub struct Session<'m> {
    lockdown: Lockdown<'m>,
    /// Its name, if the phone gave it one: it is needed to end the session, and for nothing else.
    id: Option<String>,
    tls: TlsConfig,
    escrow_bag: Option<Vec<u8>>,
}

impl<'m> Lockdown<'m> {
    /// Connects to the phone's lockdownd. `label` names this program to the phone.
    ///
    /// # Errors
    /// What the muxer says, and a peer that is not lockdownd.
    pub fn connect(mux: &'m dyn Mux, device: &DeviceEntry, label: &str) -> Result<Self> {
        let mut stream = mux.connect(device, PORT)?;
        stream.set_timeout(Some(DEFAULT_TIMEOUT))?;
        let label = label.to_owned();
        let (device, timeout) = (device.clone(), DEFAULT_TIMEOUT);
        let mut lockdown = Lockdown { mux, device, stream, label, timeout, is_on_trial: false };
        let kind = lockdown.query_type()?;
        if kind != TYPE {
            return Err(Error::protocol(format!("port {PORT} is served by {kind:?}, not by {TYPE}")));
        }
        Ok(lockdown)
    }

    /// Has each request be taken and each answer arrive within `timeout`; streams to services begin with it too.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.timeout = timeout;
        Ok(self.stream.set_timeout(Some(timeout))?)
    }

    /// The phone at the other end.
    pub fn device(&self) -> &DeviceEntry {
        &self.device
    }

    /// What listens: [`TYPE`].
    ///
    /// # Errors
    /// What the connection or the phone says.
    pub fn query_type(&mut self) -> Result<String> {
        let answer = self.ask("QueryType", Dictionary::new())?;
        property_list::string(&answer, "Type").ok_or_else(|| without("QueryType", "Type"))
    }

    /// A value of a domain, or, without a key, all of it as a dictionary. Few are given outside a session.
    ///
    /// # Errors
    /// What the connection or the phone says; that there is no such value is no error.
    pub fn value(&mut self, domain: Option<&str>, key: Option<&str>) -> Result<Option<Value>> {
        match self.ask("GetValue", place(domain, key)) {
            Ok(mut answer) => Ok(answer.remove("Value")),
            Err(Error::Lockdown { code, .. }) if code == "MissingValue" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pairs: shows "Trust This Computer?" on the phone and waits for the answer, which ends with the passcode.
    ///
    /// `system_buid` is this computer's name ([`Mux::read_buid`]), `host_name` what the phone may show. While the dialog
    /// is open, `keep_waiting` is called about once a second; when it says false, the dialog is left alone. The record
    /// is new and kept nowhere yet: [`crate::pair_record::PairRecords::save`].
    ///
    /// usbmuxd pairs by itself with a phone whose owner taps Trust. If it does so meanwhile and the phone knows the
    /// record that it kept, that one is returned: another would raise a second dialog.
    ///
    /// # Errors
    /// [`Error::TooOld`], [`Error::PasswordProtected`] if the phone must be unlocked first, [`Error::UserDenied`],
    /// [`Error::PairingProhibited`], [`Error::TrustPending`] if waiting ended first, and what the connection says.
    pub fn pair(
        &mut self,
        system_buid: &str,
        host_name: Option<&str>,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<PairRecord> {
        self.refuse_old()?;
        let mut kept_before = self.kept_by_mux();
        let mut record = pairing::new_record(&self.candidate()?, system_buid)?;
        let mut fields = pairing_fields(&record);
        if let Some(name) = host_name {
            fields.insert("HostName".into(), name.into());
        }
        loop {
            match self.ask_again("Pair", &fields) {
                Ok(answer) => {
                    record.escrow_bag = property_list::data(&answer, "EscrowBag");
                    return Ok(record);
                }
                Err(Error::TrustPending) if keep_waiting() => thread::sleep(PAIRING_POLL),
                Err(error) => return Err(error),
            }
            let kept = self.kept_by_mux();
            if kept != kept_before {
                match kept {
                    Some(kept) if self.is_known(&kept) => return Ok(kept),
                    kept => kept_before = kept,
                }
            }
        }
    }

    /// The record that the muxer keeps of this phone, if it keeps one that can be used.
    fn kept_by_mux(&self) -> Option<PairRecord> {
        let bytes = self.mux.read_pair_record(&self.device.udid).ok().flatten()?;
        PairRecord::parse(&self.device.udid, &bytes).ok()
    }

    /// Whether a session begins with this record, on a connection of its own.
    fn is_known(&self, record: &PairRecord) -> bool {
        let session =
            Lockdown::connect(self.mux, &self.device, &self.label).and_then(|door| door.start_session(record));
        session.and_then(Session::stop).is_ok()
    }

    /// Has the phone forget this pairing.
    ///
    /// # Errors
    /// What the connection or the phone says; [`Error::InvalidHostId`] if it had forgotten already.
    pub fn unpair(&mut self, record: &PairRecord) -> Result<()> {
        self.ask("Unpair", pairing_fields(record)).map(drop)
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::TooOld`]; [`Error::InvalidHostId`] or [`Error::Forgotten`] if the phone does not know the record,
    /// [`Error::WrongCertificate`] if it is another phone, [`Error::PasswordProtected`] if it was not unlocked since it
    /// started, and what the connection says.
    pub fn start_session(mut self, record: &PairRecord) -> Result<Session<'m>> {
        self.refuse_old()?;
        let tls = TlsConfig::new(record)?;
        let fields =
            Dictionary::from_iter([("HostID", record.host_id.as_str()), ("SystemBUID", record.system_buid.as_str())]);
        let answer = self.ask("StartSession", fields)?;
        let id = property_list::string(&answer, "SessionID");
        // All phones since iOS 5 ask for TLS; one that does not has not proved who it is.
        if property_list::boolean(&answer, "EnableSessionSSL") != Some(true) {
            return Err(Error::protocol("lockdownd began a session without TLS"));
        }
        let (mux, device) = (self.mux, self.device.clone());
        let (stream, is_accepted) = tls.begin(self.stream).map_err(|error| closed_on_trial(mux, &device, error))?;
        let lockdown = Lockdown { stream, is_on_trial: !is_accepted, ..self };
        Ok(Session { lockdown, id, tls, escrow_bag: record.escrow_bag.clone() })
    }

    /// The phone's version, if its TLS is one that would fail without a word about the reason. Those that do not tell
    /// their version, and watches, which count otherwise, are never too old.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub fn too_old(&mut self) -> Result<Option<String>> {
        let Some(version) = self.public_text("ProductVersion")? else { return Ok(None) };
        let major: Option<u32> = version.split('.').next().and_then(|major| major.trim().parse().ok());
        let is_old = major.is_some_and(|major| major < OLDEST_IOS)
            && self.public_text("DeviceClass")?.as_deref() != Some("Watch");
        Ok(is_old.then(|| shortened(&version)))
    }

    fn refuse_old(&mut self) -> Result<()> {
        match self.too_old()? {
            Some(version) => Err(Error::TooOld { version }),
            None => Ok(()),
        }
    }

    /// A text that the phone tells to everybody; none if it refuses to.
    fn public_text(&mut self, key: &str) -> Result<Option<String>> {
        match self.value(None, Some(key)) {
            Err(Error::Lockdown { .. } | Error::PasswordProtected) => Ok(None),
            value => Ok(value?.and_then(Value::into_string)),
        }
    }

    fn candidate(&mut self) -> Result<Candidate> {
        let key = self.value(None, Some("DevicePublicKey"))?;
        let address = self.value(None, Some("WiFiAddress"))?;
        Ok(Candidate {
            udid: self.device.udid.clone(),
            public_key: key.and_then(Value::into_data).ok_or_else(|| without("GetValue", "DevicePublicKey"))?,
            wifi_mac_address: address.and_then(Value::into_string),
        })
    }

    /// Asks, over a new connection if the phone has closed this one, as it may when nothing is asked: a small computer
    /// takes more than ten seconds to make its keys.
    fn ask_again(&mut self, request: &'static str, fields: &Dictionary) -> Result<Dictionary> {
        match self.ask(request, fields.clone()) {
            Err(Error::Disconnected) => {
                self.stream = Lockdown::connect(self.mux, &self.device, &self.label)?.stream;
                self.set_timeout(self.timeout)?;
                self.ask(request, fields.clone())
            }
            answered => answered,
        }
    }

    /// Asks, and returns the answer unless it is an error.
    fn ask(&mut self, request: &'static str, mut fields: Dictionary) -> Result<Dictionary> {
        for (key, value) in [("Label", self.label.as_str()), ("ProtocolVersion", "2"), ("Request", request)] {
            fields.insert(key.into(), value.into());
        }
        let exchanged = write_xml_plist(&mut *self.stream, &Value::Dictionary(fields))
            .and_then(|()| read_dictionary(&mut *self.stream, SMALL_MESSAGE_BYTES));
        let answer = match exchanged {
            Err(error) if self.is_on_trial => return Err(closed_on_trial(self.mux, &self.device, error)),
            exchanged => exchanged?,
        };
        self.is_on_trial = false;
        match answer.get("Request").and_then(Value::as_string) {
            // Phones answer Unpair in the name of another request (libimobiledevice's lockdown.c).
            Some(answered) if answered == request || request == "Unpair" => {}
            other => {
                return Err(Error::protocol(format!("lockdownd answered {request} with {:?}", other.map(shortened))));
            }
        }
        match (answer.get("Error"), property_list::string(&answer, "Result").as_deref()) {
            (Some(Value::Integer(number)), _) => Err(refusal(request, &format!("an error without a name, {number}"))),
            (Some(error), _) => Err(refusal(request, error.as_string().unwrap_or("an error without a name"))),
            (None, Some("Success") | None) => Ok(answer),
            (None, Some(result)) => Err(refusal(request, result)),
        }
    }
}

impl Session<'_> {
    /// As [`Lockdown::value`]; within a session, phones tell nearly everything.
    ///
    /// # Errors
    /// As [`Lockdown::value`].
    pub fn value(&mut self, domain: Option<&str>, key: Option<&str>) -> Result<Option<Value>> {
        self.lockdown.value(domain, key)
    }

    /// A value that is text, if there is one.
    ///
    /// # Errors
    /// As [`Lockdown::value`].
    pub fn text(&mut self, domain: Option<&str>, key: &str) -> Result<Option<String>> {
        Ok(self.value(domain, Some(key))?.and_then(Value::into_string))
    }

    /// Sets a value.
    ///
    /// # Errors
    /// What the connection or the phone says.
    pub fn set_value(&mut self, domain: Option<&str>, key: &str, value: Value) -> Result<()> {
        let mut fields = place(domain, Some(key));
        fields.insert("Value".into(), value);
        self.lockdown.ask("SetValue", fields).map(drop)
    }

    /// Starts a service and connects to it, over TLS with the same pinned certificate.
    ///
    /// With `escrow`, the service gets at files that are protected while the phone is locked; backups need it. Records
    /// made while the phone was locked have no escrow bag, and none is sent then.
    ///
    /// # Errors
    /// [`Error::Service`] for an unknown one, [`Error::ServiceLimit`], [`Error::PasswordProtected`], and what the
    /// connection says.
    pub fn start_service(&mut self, name: &str, escrow: bool) -> Result<Box<dyn Stream>> {
        let mut fields = Dictionary::from_iter([("Service", name)]);
        if let Some(bag) = self.escrow_bag.as_ref().filter(|_| escrow) {
            fields.insert("EscrowBag".into(), Value::Data(bag.clone()));
        }
        let answer = self.lockdown.ask("StartService", fields).map_err(|error| service_error(name, error))?;
        let port = answer
            .get("Port")
            .and_then(Value::as_unsigned_integer)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port > 0)
            .ok_or_else(|| without("StartService", "Port"))?;
        let mut stream = self.lockdown.mux.connect(&self.lockdown.device, port)?;
        stream.set_timeout(Some(self.lockdown.timeout))?;
        if property_list::boolean(&answer, "EnableServiceSSL") == Some(true) {
            return self.tls.secure(stream);
        }
        // Old phones serve some services in the clear. A cable is private; a network is not.
        match self.lockdown.device.connection {
            Connection::Usb => Ok(stream),
            Connection::Network => {
                Err(Error::Service { name: name.to_owned(), code: "not offered over TLS on this network".into() })
            }
        }
    }

    /// As [`Lockdown::set_timeout`].
    ///
    /// # Errors
    /// What the system says.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.lockdown.set_timeout(timeout)
    }

    /// The phone at the other end.
    pub fn device(&self) -> &DeviceEntry {
        self.lockdown.device()
    }

    /// Ends the session in good order. Streams to services live on.
    ///
    /// # Errors
    /// What the connection or the phone says; the session is over all the same.
    pub fn stop(mut self) -> Result<()> {
        match self.id.take() {
            Some(id) => self.lockdown.ask("StopSession", Dictionary::from_iter([("SessionID", id)])).map(drop),
            None => Ok(()),
        }
    }
}

fn place(domain: Option<&str>, key: Option<&str>) -> Dictionary {
    let named = [("Domain", domain), ("Key", key)];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
}

/// Certificates and names; no private key.
fn pairing_fields(record: &PairRecord) -> Dictionary {
    let options = Dictionary::from_iter([("ExtendedPairingErrors", true)]);
    Dictionary::from_iter([
        ("PairRecord", Value::Dictionary(record.public_part())),
        ("PairingOptions", Value::Dictionary(options)),
    ])
}

/// Takes a connection that was lost before the phone accepted this computer's certificate for a sign that the phone has
/// forgotten it, if the phone itself is there still. Such a phone may have answered StartSession all the same.
fn closed_on_trial(mux: &dyn Mux, device: &DeviceEntry, error: Error) -> Error {
    match error {
        Error::Disconnected if mux.devices().is_ok_and(|devices| devices.contains(device)) => Error::Forgotten,
        error => error,
    }
}

/// lockdownd's error texts as situations.
fn refusal(request: &'static str, code: &str) -> Error {
    match code {
        "PasswordProtected" | "EscrowLocked" => Error::PasswordProtected,
        "PairingDialogResponsePending" => Error::TrustPending,
        "UserDeniedPairing" => Error::UserDenied,
        "PairingProhibitedOverThisConnection" => Error::PairingProhibited,
        "InvalidHostID" => Error::InvalidHostId,
        _ => Error::Lockdown { request, code: shortened(code) },
    }
}

fn service_error(name: &str, error: Error) -> Error {
    match error {
        Error::Lockdown { code, .. } if code == "ServiceLimit" => Error::ServiceLimit { name: name.to_owned() },
        Error::Lockdown { code, .. } => Error::Service { name: name.to_owned(), code },
        error => error,
    }
}

fn without(request: &str, what: &str) -> Error {
    Error::protocol(format!("lockdownd answered {request} without {what}"))
}

/// Foreign text, fit for a message.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        sync::Mutex,
    };

    use super::*;
    use crate::{
        mux::HotPlug,
        pairing::tests::{candidate, device_key_pem, paired},
        tls::tests::phone_side,
    };

    /// A phone whose ports are those of this computer, one listener for each.
    struct Ports {
        lockdown: TcpListener,
        service: TcpListener,
    }

    impl Ports {
        fn open() -> Self {
            let open = || TcpListener::bind("127.0.0.1:0").unwrap();
            Ports { lockdown: open(), service: open() }
        }
        fn service_port(&self) -> u16 {
            self.service.local_addr().unwrap().port()
        }
    }

    impl Mux for Ports {
        fn connect(&self, _: &DeviceEntry, port: u16) -> Result<Box<dyn Stream>> {
            let port = if port == PORT { self.lockdown.local_addr().unwrap().port() } else { port };
            Ok(Box::new(TcpStream::connect(("127.0.0.1", port))?))
        }
        fn devices(&self) -> Result<Vec<DeviceEntry>> {
            Ok(vec![device(Connection::Usb)])
        }
        fn read_pair_record(&self, _: &str) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn save_pair_record(&self, _: &DeviceEntry, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn delete_pair_record(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn read_buid(&self) -> Result<Option<String>> {
            Ok(None)
        }
        fn listen(&self) -> Result<Box<dyn HotPlug>> {
            Err(Error::Timeout)
        }
    }

    fn device(connection: Connection) -> DeviceEntry {
        DeviceEntry { device_id: 1, udid: paired().udid, connection }
    }

    fn answer(stream: &mut (impl Read + Write), fields: &[(&str, Value)]) -> Dictionary {
        let request = read_dictionary(stream, SMALL_MESSAGE_BYTES).unwrap();
        let mut answer: Dictionary = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        if !answer.contains_key("Request") {
            answer.insert("Request".into(), request.get("Request").unwrap().clone());
        }
        write_xml_plist(stream, &Value::Dictionary(answer)).unwrap();
        request
    }

    const NOTHING: &[(&str, Value)] = &[];

    fn error(code: &str) -> [(&'static str, Value); 1] {
        [("Error", code.into())]
    }

    /// Runs `phone` on the other side of a fresh connection, its QueryType answered.
    fn with_phone<R>(phone: impl FnOnce(&mut TcpStream) + Send, host: impl FnOnce(Lockdown<'_>) -> R) -> R {
        let ports = Ports::open();
        thread::scope(|scope| {
            let listener = &ports.lockdown;
            scope.spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                answer(&mut socket, &[("Type", TYPE.into())]);
                phone(&mut socket);
            });
            host(Lockdown::connect(&ports, &device(Connection::Usb), "test").unwrap())
        })
    }

    /// Tells the version, which is asked before a pairing and before a session.
    fn tell_version(socket: &mut TcpStream) -> Dictionary {
        answer(socket, &[("Value", "17.6.1".into())])
    }

    fn give_candidate(socket: &mut TcpStream) {
        tell_version(socket);
        answer(socket, &[("Value", Value::Data(candidate().public_key))]);
        answer(socket, &[("Value", "aa:bb:cc:dd:ee:ff".into())]);
    }

    #[test]
    fn values_are_given_missing_or_refused() {
        let phone = |socket: &mut TcpStream| {
            let request = answer(socket, &[("Value", "iPhone".into())]);
            assert_eq!(request.get("Key").unwrap().as_string(), Some("DeviceName"));
            assert_eq!(request.get("Domain").unwrap().as_string(), Some("d"));
            let request = answer(socket, &error("MissingValue"));
            assert!(!request.contains_key("Domain") && !request.contains_key("Key"));
            answer(socket, &error("GetProhibited"));
        };
        with_phone(phone, |mut lockdown| {
            assert_eq!(lockdown.value(Some("d"), Some("DeviceName")).unwrap(), Some("iPhone".into()));
            assert_eq!(lockdown.value(None, None).unwrap(), None);
            let refused = lockdown.value(None, Some("x")).unwrap_err();
            assert!(matches!(&refused, Error::Lockdown { request: "GetValue", code } if code == "GetProhibited"));
        });
    }

    #[test]
    fn pairing_waits_for_the_user_and_sends_no_private_key() {
        let requests = Mutex::new(Vec::new());
        let phone = |socket: &mut TcpStream| {
            give_candidate(socket);
            let mut requests = requests.lock().unwrap();
            requests.push(answer(socket, &error("PairingDialogResponsePending")));
            requests.push(answer(socket, &[("EscrowBag", Value::Data(vec![7; 32]))]));
        };
        let mut waited = 0;
        let record = with_phone(phone, |mut lockdown| {
            lockdown
                .pair("BUID", Some("desk"), &mut || {
                    waited += 1;
                    true
                })
                .unwrap()
        });
        assert_eq!(waited, 1);
        assert_eq!(record.escrow_bag, Some(vec![7; 32]));
        let requests = requests.into_inner().unwrap();
        assert_eq!(requests[0], requests[1], "the same keys are offered while the dialog is open");
        let mut sent = Vec::new();
        Value::Dictionary(requests[0].clone()).to_writer_binary(&mut sent).unwrap();
        let holds = |part: &[u8]| sent.windows(part.len()).any(|window| window == part);
        assert!(holds(&record.host_certificate) && holds(&record.device_certificate) && holds(b"BUID"));
        assert!(!holds(b"PRIVATE") && !holds(b"PrivateKey"));
        assert!(!holds(&record.host_private_key[40..120]));
    }

    #[test]
    fn every_end_of_the_trust_dialog_has_its_error() {
        type Expected = fn(&Error) -> bool;
        let cases: [(&str, Expected); 6] = [
            ("PasswordProtected", |error| matches!(error, Error::PasswordProtected)),
            ("UserDeniedPairing", |error| matches!(error, Error::UserDenied)),
            ("PairingProhibitedOverThisConnection", |error| matches!(error, Error::PairingProhibited)),
            ("InvalidHostID", |error| matches!(error, Error::InvalidHostId)),
            ("PairingDialogResponsePending", |error| matches!(error, Error::TrustPending)),
            ("SomethingNew", |error| matches!(error, Error::Lockdown { code, .. } if code == "SomethingNew")),
        ];
        for (code, expected) in cases {
            let phone = |socket: &mut TcpStream| {
                give_candidate(socket);
                answer(socket, &error(code));
            };
            let refused = with_phone(phone, |mut lockdown| lockdown.pair("BUID", None, &mut || false)).unwrap_err();
            assert!(expected(&refused), "{code}: {refused:?}");
        }
    }

    #[test]
    fn a_session_is_over_tls_and_so_are_its_services() {
        let (ports, mut record) = (Ports::open(), paired());
        record.escrow_bag = Some(vec![9; 32]);
        thread::scope(|scope| {
            let (ports, record) = (&ports, &record);
            let secured = move |socket: TcpStream| {
                let key = device_key_pem();
                let version = &rustls::version::TLS12;
                phone_side(socket, &record.device_certificate, key.as_bytes(), &record.root_certificate, version)
            };
            scope.spawn(move || {
                let (mut socket, _) = ports.lockdown.accept().unwrap();
                answer(&mut socket, &[("Type", TYPE.into())]);
                assert_eq!(tell_version(&mut socket).get("Key").unwrap().as_string(), Some("ProductVersion"));
                let request = answer(&mut socket, &[("SessionID", "S1".into()), ("EnableSessionSSL", true.into())]);
                assert_eq!(request.get("HostID").unwrap().as_string(), Some(record.host_id.as_str()));
                let mut session = secured(socket);
                answer(&mut session, &[("Value", "iPhone".into())]);
                let started = [("Port", ports.service_port().into()), ("EnableServiceSSL", true.into())];
                let request = answer(&mut session, &started);
                assert_eq!(request.get("EscrowBag").unwrap().as_data(), Some(&[9; 32][..]));
                let (socket, _) = ports.service.accept().unwrap();
                secured(socket).write_all(b"hello").unwrap();
                let request = answer(&mut session, &error("InvalidService"));
                assert!(!request.contains_key("EscrowBag"));
                answer(&mut session, &error("ServiceLimit"));
                answer(&mut session, NOTHING);
                let request = answer(&mut session, NOTHING);
                assert_eq!(request.get("SessionID").unwrap().as_string(), Some("S1"));
            });
            let lockdown = Lockdown::connect(ports, &device(Connection::Usb), "test").unwrap();
            let mut session = lockdown.start_session(record).unwrap();
            assert_eq!(session.text(None, "DeviceName").unwrap().unwrap(), "iPhone");
            let mut said = String::new();
            session.start_service("com.apple.afc", true).unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, "hello");
            let unknown = session.start_service("com.apple.x", false).map(drop);
            assert!(matches!(unknown, Err(Error::Service { name, .. }) if name == "com.apple.x"));
            assert!(matches!(session.start_service("x", false).map(drop), Err(Error::ServiceLimit { .. })));
            session.set_value(Some("d"), "k", true.into()).unwrap();
            session.stop().unwrap();
        });
    }

    #[test]
    fn a_session_with_an_impostor_does_not_begin() {
        let record = paired();
        let phone = |socket: &mut TcpStream| {
            tell_version(socket);
            answer(socket, &[("SessionID", "S".into()), ("EnableSessionSSL", true.into())]);
            let socket = socket.try_clone().unwrap();
            let (certificate, key) = (&record.host_certificate, &record.host_private_key);
            let version = &rustls::version::TLS13;
            let _ = phone_side(socket, certificate, key, &record.root_certificate, version).read(&mut [0]);
        };
        let refused = with_phone(phone, |lockdown| lockdown.start_session(&record).map(drop));
        assert!(matches!(refused, Err(Error::WrongCertificate)), "{refused:?}");
    }

    #[test]
    fn a_phone_that_closes_in_tls_has_forgotten() {
        let phone = |socket: &mut TcpStream| {
            tell_version(socket);
            answer(socket, &[("SessionID", "S".into()), ("EnableSessionSSL", true.into())]);
            // Until the greeting has begun to arrive.
            let _ = socket.read(&mut [0; 1]);
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        };
        let refused = with_phone(phone, |lockdown| lockdown.start_session(&paired()).map(drop));
        assert!(matches!(refused, Err(Error::Forgotten)), "{refused:?}");
    }

    #[test]
    fn a_certificate_refused_after_tls_is_forgotten() {
        let (record, other) = (paired(), pairing::new_record(&candidate(), "B").unwrap());
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let phone = |socket: &mut TcpStream| {
                tell_version(socket);
                answer(socket, &[("SessionID", "S".into()), ("EnableSessionSSL", true.into())]);
                let (socket, key) = (socket.try_clone().unwrap(), device_key_pem());
                let certificate = &record.device_certificate;
                let _ =
                    phone_side(socket, certificate, key.as_bytes(), &other.root_certificate, version).read(&mut [0]);
            };
            let refused = with_phone(phone, |lockdown| lockdown.start_session(&record)?.value(None, None).map(drop));
            // An alert says so, where the connection outlives it.
            assert!(matches!(refused, Err(Error::Forgotten | Error::Tls(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_phone_that_is_too_old_is_told_of() {
        let too_old = |version: &str, class: &str| {
            let phone = |socket: &mut TcpStream| {
                answer(socket, &[("Value", version.into())]);
                answer(socket, &[("Value", class.into())]);
            };
            let asked = with_phone(phone, |lockdown| lockdown.start_session(&paired()).map(drop)).unwrap_err();
            matches!(&asked, Error::TooOld { version: told } if told == version)
        };
        for version in ["9.3.5", "1.0", "9"] {
            assert!(too_old(version, "iPhone"), "{version}");
        }
        // The others go on to StartSession, to which there is no such answer.
        for (version, class) in [("10.0", "iPhone"), ("26.1", "iPad"), ("7.3", "Watch"), ("", "x"), ("new", "x")] {
            assert!(!too_old(version, class), "{version} {class}");
        }
        let phone = |socket: &mut TcpStream| {
            answer(socket, &[("Value", "8.4.1".into())]);
            answer(socket, &[("Value", "iPod".into())]);
        };
        let refused = with_phone(phone, |mut lockdown| lockdown.pair("BUID", None, &mut || false)).map(drop);
        assert!(matches!(refused, Err(Error::TooOld { .. })), "{refused:?}");
    }

    #[test]
    fn unpairing_bears_the_name_of_another_answer() {
        let phone = |socket: &mut TcpStream| {
            answer(socket, &[("Request", "ValidatePair".into())]);
            answer(socket, &[("Request", "ValidatePair".into()), ("Error", "InvalidHostID".into())]);
        };
        with_phone(phone, |mut lockdown| {
            lockdown.unpair(&paired()).unwrap();
            assert!(matches!(lockdown.unpair(&paired()), Err(Error::InvalidHostId)));
        });
    }

    #[test]
    fn a_session_without_tls_does_not_begin() {
        for fields in [vec![("EnableSessionSSL", false.into())], vec![]] {
            let phone = |socket: &mut TcpStream| {
                tell_version(socket);
                answer(socket, &[&[("SessionID", "S".into())], &fields[..]].concat());
            };
            let refused = with_phone(phone, |lockdown| lockdown.start_session(&paired()).map(drop));
            assert!(matches!(refused, Err(Error::Protocol { .. })), "{refused:?}");
        }
        let phone = |socket: &mut TcpStream| {
            tell_version(socket);
            answer(socket, &error("InvalidHostID"));
        };
        let refused = with_phone(phone, |lockdown| lockdown.start_session(&paired()).map(drop));
        assert!(matches!(refused, Err(Error::InvalidHostId)));
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let phone = |socket: &mut TcpStream| {
            answer(socket, &[("Request", "StopSession".into())]);
            answer(socket, &[("Request", 5.into())]);
            answer(socket, &[("Error", 5.into())]);
            answer(socket, &[("Result", "Failure".into())]);
            socket.write_all(&[0xff; 64]).unwrap();
        };
        with_phone(phone, |mut lockdown| {
            for says in ["StopSession", "GetValue", "without a name", "Failure", "4294967295"] {
                let refused = lockdown.value(None, None).unwrap_err().to_string();
                assert!(refused.contains(says), "{refused}");
            }
        });
    }

    #[test]
    fn silence_ends_in_a_time_out() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        with_phone(
            move |_| {
                let _ = told.recv();
            },
            |mut lockdown| {
                lockdown.set_timeout(Duration::from_millis(50)).unwrap();
                assert!(matches!(lockdown.value(None, None), Err(Error::Timeout)));
                drop(tell);
            },
        );
    }
}
