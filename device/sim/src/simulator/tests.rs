//! The simulator against a small backup program that keeps plain folders, at its best and with habits a phone rejects.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plist::{Dictionary, Value};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::*;
use crate::manifest::dictionary;
use crate::write_backup;

/// What the program does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    None,
    LongBlocks,
    OmitsFromListings,
    RemovesOnlyEmptyFolders,
    MissingIsAnyError,
    ForgetsManifest,
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

struct Host<'a> {
    simulator: &'a Simulator,
    folder: &'a Path,
    habit: Habit,
    id: &'static str,
    client: (CertificateDer<'static>, KeyPair),
    device: CertificateDer<'static>,
    escrow_bag: Value,
}

impl<'a> Host<'a> {
    fn paired(simulator: &'a Simulator, folder: &'a Path, habit: Habit) -> Host<'a> {
        let (host, error) = Host::pair(simulator, folder, habit);
        assert_eq!(error, None);
        host
    }

    fn pair(simulator: &'a Simulator, folder: &'a Path, habit: Habit) -> (Host<'a>, Option<String>) {
        let key = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let mut of_root = CertificateParams::new(Vec::new()).unwrap();
        of_root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (root_key, host_key) = (key(), key());
        let root = of_root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(of_root, &root_key);
        let leaf = || CertificateParams::new(Vec::new()).unwrap();
        let host = leaf().signed_by(&host_key, &issuer).unwrap();
        let device = leaf().signed_by(&simulator.shared.key, &issuer).unwrap();
        let pem = |certificate: &rcgen::Certificate| Value::Data(certificate.pem().into_bytes());
        let record = dictionary([
            ("HostID", "HOST".into()),
            ("SystemBUID", "BUID".into()),
            ("RootCertificate", pem(&root)),
            ("HostCertificate", pem(&host)),
            ("DeviceCertificate", pem(&device)),
        ]);
        let mut lockdown = connect(simulator, lockdown::PORT);
        let options = dictionary([("ExtendedPairingErrors", true.into())]);
        let reply = ask(
            &mut lockdown,
            [
                ("Request", "Pair".into()),
                ("PairRecord", Value::Dictionary(record)),
                ("ProtocolVersion", "2".into()),
                ("PairingOptions", Value::Dictionary(options)),
            ],
        );
        let error = reply.get("Error").and_then(Value::as_string).map(str::to_owned);
        let escrow_bag = reply.get("EscrowBag").cloned().unwrap_or(false.into());
        let client = (host.der().clone(), host_key);
        let device = device.der().clone();
        (Host { simulator, folder, habit, id: "HOST", client, device, escrow_bag }, error)
    }

    fn tls(&self, socket: TcpStream) -> io::Result<Box<dyn Duplex>> {
        let (certificate, key) = &self.client;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(self.device.clone())))
            .with_client_auth_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let name = ServerName::try_from("phone").unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Box::new(ReadsOn(stream)))
    }

    fn service(&self, name: &str) -> io::Result<Box<dyn Duplex>> {
        let mut lockdown = connect(self.simulator, lockdown::PORT);
        let session = [("Request", "StartSession".into()), ("HostID", self.id.into()), ("SystemBUID", "BUID".into())];
        let reply = ask(&mut lockdown, session);
        assert_eq!(reply.get("Error"), None);
        let mut lockdown = self.tls(lockdown)?;
        let start =
            [("Request", "StartService".into()), ("Service", name.into()), ("EscrowBag", self.escrow_bag.clone())];
        let reply = ask(&mut lockdown, start);
        let Some(port) = reply.get("Port").and_then(Value::as_unsigned_integer) else {
            return Err(io::Error::other(format!("{reply:?}")));
        };
        self.tls(connect(self.simulator, port as u16))
    }

    /// Runs a request; the code and text of its end.
    fn run(&self, name: &str, options: Dictionary) -> io::Result<(u64, String)> {
        let mut link = self.service(services::BACKUP)?;
        let link: &mut dyn Duplex = &mut *link;
        receive(link)?;
        let ok = ["DLMessageVersionExchange".into(), "DLVersionsOk".into(), 400.into()];
        send(link, &Value::Array(ok.into()))?;
        receive(link)?;
        let mut request = dictionary([
            ("MessageName", name.into()),
            ("TargetIdentifier", self.simulator.udid().into()),
            ("SourceIdentifier", self.simulator.udid().into()),
        ]);
        request.extend(options.iter().map(|(key, value)| (key.clone(), value.clone())));
        request.insert("Options".into(), Value::Dictionary(options));
        let info = self.folder.join(self.simulator.udid());
        fs::create_dir_all(&info)?;
        let values = dictionary([("Product Version", "17.6.1".into()), ("Target Identifier", "x".into())]);
        Value::Dictionary(values).to_file_xml(info.join("Info.plist")).unwrap();
        send(link, &Value::Array(vec!["DLMessageProcessMessage".into(), Value::Dictionary(request)]))?;
        loop {
            let message = receive(link)?.into_array().unwrap();
            let name = message[0].as_string().unwrap();
            if name == "DLMessageProcessMessage" {
                let response = message[1].as_dictionary().unwrap();
                let text = response.get("ErrorDescription").and_then(Value::as_string).unwrap_or_default();
                return Ok((response["ErrorCode"].as_unsigned_integer().unwrap(), text.to_owned()));
            }
            if name == "DLMessageDisconnect" {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let (code, payload) = match self.answer(link, name, &message) {
                Ok(payload) => (0, payload),
                // The phone has hung up in the middle of it: why stands before its end.
                Err(Trouble::Io(error)) if is_hung_up(&error) => continue,
                Err(Trouble::Io(error)) => return Err(error),
                Err(Trouble::Status(code, payload)) => (code, payload),
            };
            let response = Value::Array(vec!["DLMessageStatusResponse".into(), code.into(), "".into(), payload]);
            send(link, &response).or_else(|error| if is_hung_up(&error) { Ok(()) } else { Err(error) })?;
        }
    }

    fn answer(&self, link: &mut dyn Duplex, name: &str, message: &[Value]) -> Result<Value, Trouble> {
        match name {
            "DLMessageDownloadFiles" => self.give(link, message[1].as_array().unwrap()),
            "DLMessageUploadFiles" => self.take(link),
            "DLMessageGetFreeDiskSpace" => Ok((50u64 << 30).into()),
            "DLContentsOfDirectory" => self.list(&self.inside(text(&message[1]))?),
            "DLMessageCreateDirectory" => Ok(fs::create_dir_all(self.inside(text(&message[1]))?).map(|()| nothing())?),
            "DLMessageMoveItems" => {
                for (from, to) in message[1].as_dictionary().unwrap() {
                    let (from, to) = (self.inside(from)?, self.inside(text(to))?);
                    self.remove(&to)?;
                    fs::rename(from, to)?;
                }
                Ok(nothing())
            }
            "DLMessageRemoveItems" => {
                for path in message[1].as_array().unwrap() {
                    self.remove(&self.inside(text(path))?)?;
                }
                Ok(nothing())
            }
            "DLMessageCopyItem" => {
                copy(&self.inside(text(&message[1]))?, &self.inside(text(&message[2]))?)?;
                Ok(nothing())
            }
            _ => Err(Trouble::Status(-1, nothing())),
        }
    }

    fn inside(&self, path: &str) -> Result<PathBuf, Trouble> {
        let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_inside { Ok(self.folder.join(path)) } else { Err(Trouble::Status(-1, nothing())) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() && self.habit != Habit::RemovesOnlyEmptyFolders {
            fs::remove_dir_all(path)
        } else if path.is_dir() {
            // Whether it worked is not looked at.
            let _ = fs::remove_dir(path);
            Ok(())
        } else {
            fs::remove_file(path)
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        }
    }

    fn list(&self, path: &Path) -> Result<Value, Trouble> {
        let mut listing = Dictionary::new();
        for entry in fs::read_dir(path).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap();
            if self.habit == Habit::OmitsFromListings && name.len() == 40 && name.starts_with('a') {
                continue;
            }
            let data = entry.metadata()?;
            let kind = if data.is_dir() { "DLFileTypeDirectory" } else { "DLFileTypeRegular" };
            let date = Value::Date(data.modified()?.into());
            let fields =
                [("DLFileType", kind.into()), ("DLFileSize", data.len().into()), ("DLFileModificationDate", date)];
            listing.insert(name, Value::Dictionary(dictionary(fields)));
        }
        Ok(Value::Dictionary(listing))
    }

    fn give(&self, link: &mut dyn Duplex, paths: &[Value]) -> Result<Value, Trouble> {
        let mut errors = Dictionary::new();
        for path in paths.iter().map(text) {
            block_of(link, None, path.as_bytes())?;
            let forgotten = self.habit == Habit::ForgetsManifest && path.ends_with("Manifest.db");
            let content = self.inside(path).ok().and_then(|path| fs::read(path).ok()).filter(|_| !forgotten);
            if let Some(content) = content {
                let length = if self.habit == Habit::LongBlocks { 100_000 } else { 32 << 10 };
                content.chunks(length).try_for_each(|data| block_of(link, Some(0x0c), data))?;
                block_of(link, Some(0x00), b"")?;
            } else {
                block_of(link, Some(0x06), b"No such file")?;
                let code = if self.habit == Habit::MissingIsAnyError { -1 } else { -6 };
                let error =
                    dictionary([("DLFileErrorString", "No such file".into()), ("DLFileErrorCode", code.into())]);
                errors.insert(path.to_owned(), Value::Dictionary(error));
            }
        }
        link.write_all(&[0; 4])?;
        if errors.is_empty() { Ok(nothing()) } else { Err(Trouble::Status(-13, Value::Dictionary(errors))) }
    }

    fn take(&self, link: &mut dyn Duplex) -> Result<Value, Trouble> {
        let mut refused = false;
        while let Some(_device_path) = name(link)? {
            let path = self.inside(&name(link)?.unwrap());
            let mut content = Vec::new();
            loop {
                let length = word(link)?;
                if length == 0 {
                    break;
                }
                if length > 1 << 20 {
                    return Err(Trouble::Io(io::Error::other("a block that is too long")));
                }
                let mut bytes = vec![0; length as usize];
                link.read_exact(&mut bytes)?;
                if bytes[0] != 0x0c {
                    break;
                }
                content.extend(&bytes[1..]);
            }
            match path {
                Ok(path) => fs::write(path, content)?,
                Err(_) => refused = true,
            }
        }
        if refused { Err(Trouble::Status(-1, nothing())) } else { Ok(nothing()) }
    }
}

enum Trouble {
    Io(io::Error),
    Status(i64, Value),
}

/// What the phone said before it hung up is read though nothing can be written any more.
struct ReadsOn(StreamOwned<ClientConnection, TcpStream>);

impl Read for ReadsOn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        connection::read_tls(&mut self.0, buffer)
    }
}

impl Write for ReadsOn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::NotFound => Trouble::Status(-6, nothing()),
            _ => Trouble::Io(error),
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn nothing() -> Value {
    Value::Dictionary(Dictionary::new())
}

fn text(value: &Value) -> &str {
    value.as_string().unwrap()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    fs::read_dir(from)?.try_for_each(|entry| entry.and_then(|it| copy(&it.path(), &to.join(it.file_name()))))
}

fn connect(simulator: &Simulator, port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(simulator.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_nodelay(true).unwrap();
    let id = simulator.shared.state().device_id.unwrap();
    let request = dictionary([
        ("MessageType", "Connect".into()),
        ("DeviceID", id.into()),
        ("PortNumber", port.swap_bytes().into()),
    ]);
    let mut bytes = Vec::new();
    Value::Dictionary(request).to_writer_xml(&mut bytes).unwrap();
    for word in [16 + bytes.len() as u32, 1, 8, 1] {
        socket.write_all(&word.to_le_bytes()).unwrap();
    }
    socket.write_all(&bytes).unwrap();
    let mut header = [0; 16];
    socket.read_exact(&mut header).unwrap();
    let mut reply = vec![0; u32::from_le_bytes(header[..4].try_into().unwrap()) as usize - 16];
    socket.read_exact(&mut reply).unwrap();
    let reply: Dictionary = plist::from_bytes(&reply).unwrap();
    assert_eq!(reply["Number"].as_unsigned_integer(), Some(0));
    socket
}

fn ask<const N: usize>(stream: &mut dyn Duplex, request: [(&str, Value); N]) -> Dictionary {
    send(stream, &Value::Dictionary(dictionary(request))).unwrap();
    receive(stream).unwrap().into_dictionary().unwrap()
}

fn send(stream: &mut dyn Duplex, value: &Value) -> io::Result<()> {
    let mut bytes = Vec::new();
    value.to_writer_xml(&mut bytes).unwrap();
    stream.write_all(&(bytes.len() as u32).to_be_bytes())?;
    stream.write_all(&bytes)?;
    stream.flush()
}

fn receive(stream: &mut dyn Duplex) -> io::Result<Value> {
    let length = word(stream)?;
    if length > 1 << 24 {
        return Err(io::Error::other("a message that is too long"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    plist::from_bytes(&bytes).map_err(io::Error::other)
}

fn word(stream: &mut dyn Duplex) -> io::Result<u32> {
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    Ok(u32::from_be_bytes(word))
}

fn name(stream: &mut dyn Duplex) -> io::Result<Option<String>> {
    let length = word(stream)?;
    if length > 4096 {
        return Err(io::Error::other("a name that is too long"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok((length > 0).then(|| String::from_utf8(bytes).unwrap()))
}

fn block_of(stream: &mut dyn Duplex, code: Option<u8>, data: &[u8]) -> io::Result<()> {
    let length = data.len() as u32 + u32::from(code.is_some());
    stream.write_all(&[&length.to_be_bytes()[..], code.as_slice(), data].concat())
}

/// Takes the phone for what it is by its certificate alone.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}

fn simulator(options: Options) -> Simulator {
    Simulator::start(Phone::new(7, 5_000_000).unwrap(), options).unwrap()
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(
                contents(&entry.path()).into_iter().map(|(path, it)| (Path::new(&entry.file_name()).join(path), it)),
            );
        } else {
            found.insert(entry.file_name().into(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn migrate() -> Dictionary {
    dictionary([("RestoreSystemFiles", true.into()), ("RestoreDontCopyBackup", false.into())])
}

#[test]
fn does_a_backup_over_the_socket_leave_the_folder_that_is_written_directly() {
    let [folder, direct] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let simulator = simulator(Options::default());
    let host = Host::paired(&simulator, folder.path(), Habit::None);
    for day in 0..3 {
        let before = simulator.traffic();
        assert_eq!(host.run("Backup", Dictionary::new()).unwrap().0, 0);
        let sent = simulator.traffic().files_sent - before.files_sent;
        let stats = write_backup(&simulator.phone(), direct.path()).unwrap();
        // Manifest.db, Manifest.plist, and Status.plist twice.
        assert_eq!(sent, stats.written + 4, "day {day}");
        let [mut one, mut other] = [folder.path(), direct.path()].map(contents);
        for file in [&mut one, &mut other] {
            file.retain(|path, _| !path.ends_with("Info.plist") && !path.ends_with("Status.plist"));
        }
        assert!(one == other, "day {day}");
        simulator.live_one_day().unwrap();
    }
    assert!(simulator.complaints().iter().all(|it| it.starts_with("a backup without")), "{:?}", simulator.complaints());
}

#[test]
fn does_a_restore_give_every_file_back() {
    for password in [None, Some("secret")] {
        let folder = tempfile::tempdir().unwrap();
        let simulator = simulator(Options { password: password.map(str::to_owned), ..Options::default() });
        let host = Host::paired(&simulator, folder.path(), Habit::None);
        for _ in 0..2 {
            assert_eq!(host.run("Backup", Dictionary::new()).unwrap().0, 0);
            simulator.live_one_day().unwrap();
        }
        assert_eq!(host.run("Backup", Dictionary::new()).unwrap().0, 0);
        let mut options = migrate();
        if let Some(password) = password {
            assert_eq!(host.run("Restore", options.clone()).unwrap().0, 207);
            options.insert("Password".into(), password.into());
        }
        assert_eq!(host.run("Restore", options).unwrap(), (0, String::new()));
        let restored = simulator.restored().unwrap();
        let phone = simulator.phone();
        assert!(phone.files().map(|(location, _)| location).eq(restored.keys()));
        for (location, file) in phone.files() {
            assert!(restored[location].is_same(file).unwrap(), "{location}");
        }
    }
}

#[test]
fn are_bad_habits_rejected() {
    let cases = [
        (Habit::LongBlocks, 205),
        (Habit::OmitsFromListings, 205),
        (Habit::RemovesOnlyEmptyFolders, 104),
        (Habit::MissingIsAnyError, 205),
        (Habit::ForgetsManifest, 205),
    ];
    for (habit, code) in cases {
        let folder = tempfile::tempdir().unwrap();
        let simulator = simulator(Options::default());
        if habit != Habit::MissingIsAnyError {
            assert_eq!(
                Host::paired(&simulator, folder.path(), Habit::None).run("Backup", Dictionary::new()).unwrap().0,
                0
            );
            simulator.live_one_day().unwrap();
        }
        let (found, text) = Host::paired(&simulator, folder.path(), habit).run("Backup", Dictionary::new()).unwrap();
        assert_eq!(found, code, "{text}");
    }
}

#[test]
fn does_every_fault_end_and_leave_a_phone_that_can_be_backed_up() {
    let escapes = PathIn::ALL.map(|message| Fault::Escape(message, "../outside".into()));
    let faults = [
        (Fault::Drop(After::Files(3)), None),
        (Fault::Drop(After::Bytes(100_000)), None),
        (Fault::GarbageMessageLength, None),
        (Fault::GarbageMessage, None),
        (Fault::GarbageNameLength, None),
        (Fault::GarbageBlockLength, None),
        (Fault::Disconnect, None),
        (Fault::Locked, Some(208)),
        (Fault::NoSpace, Some(105)),
        (Fault::Cancel, Some(1)),
        (Fault::UnknownMessage, Some(0)),
        (Fault::ZeroBlock, Some(0)),
        (Fault::FileError(7), Some(0)),
        (Fault::MissingFile(7), Some(0)),
        (Fault::ChangedFile(7), Some(0)),
        (Fault::FinalError(104, "Multiple errors".into()), Some(104)),
        (Fault::NeverFinished, Some(0)),
        (Fault::ServiceLimit(1), None),
    ];
    let escapes = escapes.into_iter().map(|fault| (fault, Some(0)));
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(Options::default());
    let host = Host::paired(&simulator, folder.path(), Habit::None);
    for (fault, wanted) in faults.into_iter().chain(escapes) {
        simulator.set_fault(Some(fault.clone()));
        let full = dictionary([("ForceFullBackup", true.into())]);
        let found = host.run("Backup", full);
        assert_eq!(found.as_ref().ok().map(|(code, _)| *code), wanted, "{fault:?} {found:?}");
        simulator.set_fault(None);
        assert_eq!(host.run("Backup", Dictionary::new()).unwrap(), (0, String::new()), "after {fault:?}");
    }
    assert!(!simulator.complaints().iter().any(|it| it.contains("refused")), "{:?}", simulator.complaints());
}

#[test]
fn is_an_impostor_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(Options::default());
    let host = Host::paired(&simulator, folder.path(), Habit::None);
    simulator.set_fault(Some(Fault::Impostor));
    assert!(host.run("Backup", Dictionary::new()).is_err());
    simulator.set_fault(None);
    assert_eq!(host.run("Backup", Dictionary::new()).unwrap().0, 0);
}

#[test]
fn does_the_owner_decide_about_trust() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(Options { trust: Trust::Pending(2), ..Options::default() });
    let pair = || Host::pair(&simulator, folder.path(), Habit::None).1;
    let pending = Some("PairingDialogResponsePending".to_owned());
    assert_eq!([pair(), pair(), pair()], [pending.clone(), pending, None]);
    for (trust, error) in [(Trust::Deny, "UserDeniedPairing"), (Trust::Locked, "PasswordProtected")] {
        simulator.set_trust(trust);
        assert_eq!(pair().as_deref(), Some(error));
    }
}

#[test]
fn are_passwords_checked() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(Options::default());
    let host = Host::paired(&simulator, folder.path(), Habit::None);
    let change = |old: &str, new: &str| {
        let words = [("OldPassword", old.into()), ("NewPassword", new.into())];
        host.run("ChangePassword", dictionary(words)).unwrap().0
    };
    assert_eq!([change("", "one"), change("two", "three"), change("one", "two")], [0, 207, 0]);
    assert!(simulator.is_encrypting());
    assert_eq!([change("two", "")], [0]);
    assert!(!simulator.is_encrypting());
}

#[test]
fn is_a_post_heard_from_a_computer_that_has_closed_before_it_heard_what_is_relayed() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(Options::default());
    let host = Host::paired(&simulator, folder.path(), Habit::None);
    let command =
        |command: &str, name: &str| Value::Dictionary(dictionary([("Command", command.into()), ("Name", name.into())]));
    let mut proxy = host.service(services::NOTIFICATIONS).unwrap();
    send(&mut *proxy, &command("ObserveNotification", "a")).unwrap();
    eventually(|| !simulator.shared.state().observers.is_empty());
    // The service cannot go on before it has both to relay and to read.
    let state = simulator.shared.state();
    send(&mut *proxy, &command("ObserveNotification", "b")).unwrap();
    send(&mut *proxy, &command("PostNotification", "last")).unwrap();
    drop(proxy);
    let (observer, _) = &state.observers[0];
    (0..3).for_each(|_| observer.send("a".into()).unwrap());
    drop(state);
    eventually(|| simulator.posted() == ["last"]);
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not come about");
        thread::sleep(Duration::from_millis(5));
    }
}
