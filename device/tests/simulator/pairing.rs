//! Pairing: every answer of the owner, sessions before and after it, and what leaves this computer.

use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use heirloom_device::{
    Error, Result, Stream,
    lockdown::Lockdown,
    mux::{self, Connection, DeviceEntry, Event, HotPlug, Mux, Usbmuxd},
    pair_record::{PairRecord, PairRecords, SavedIn},
};
use heirloom_sim::{Fault, Options, Simulator, Trust};

use crate::connected::{Connected, LABEL, muxer, phone};

fn start(trust: Trust) -> (Simulator, Usbmuxd, DeviceEntry) {
    start_with(Options { trust, ..Options::default() })
}

fn start_with(options: Options) -> (Simulator, Usbmuxd, DeviceEntry) {
    let simulator = Simulator::start(phone(3), options).unwrap();
    let mux = muxer(&simulator);
    let device = mux.devices().unwrap().remove(0);
    (simulator, mux, device)
}

fn pair(mux: &dyn Mux, device: &DeviceEntry, keep_waiting: &mut dyn FnMut() -> bool) -> Result<PairRecord> {
    let buid = mux.read_buid()?.unwrap();
    Lockdown::connect(mux, device, LABEL)?.pair(&buid, Some("desk"), keep_waiting)
}

#[test]
fn the_owner_s_answer_is_what_pairing_ends_with() {
    let (simulator, mux, device) = start(Trust::Deny);
    let refused = pair(&mux, &device, &mut || true);
    assert!(matches!(refused, Err(Error::UserDenied)), "{refused:?}");
    simulator.set_trust(Trust::Locked);
    let refused = pair(&mux, &device, &mut || true);
    assert!(matches!(refused, Err(Error::PasswordProtected)), "{refused:?}");
    simulator.set_trust(Trust::Prohibited);
    let refused = pair(&mux, &device, &mut || true);
    assert!(matches!(refused, Err(Error::PairingProhibited)), "{refused:?}");
    simulator.set_trust(Trust::Pending(2));
    let refused = pair(&mux, &device, &mut || false);
    assert!(matches!(refused, Err(Error::TrustPending)), "{refused:?}");
    simulator.set_trust(Trust::Pending(1));
    let mut waited = 0;
    let record = pair(&mux, &device, &mut || {
        waited += 1;
        true
    });
    assert_eq!(waited, 1);
    assert!(record.unwrap().escrow_bag.is_some());
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn a_pairing_is_kept_by_the_muxer_used_and_forgotten() {
    let (simulator, mux, device) = start(Trust::Accept);
    let folder = tempfile::tempdir().unwrap();
    let records = PairRecords { mux: &mux, folders: Vec::new(), own_folder: folder.path().join("own") };
    assert!(matches!(records.find(&device.udid), Err(Error::NotPaired { .. })));
    let record = pair(&mux, &device, &mut || false).unwrap();
    assert_eq!(records.save(&device, &record).unwrap(), SavedIn::Mux);
    let found = records.find(&device.udid).unwrap();
    assert!(found == record);

    let door = || Lockdown::connect(&mux, &device, LABEL).unwrap();
    let mut session = door().start_session(&found).unwrap();
    assert_eq!(session.text(None, "UniqueDeviceID").unwrap().unwrap(), device.udid);
    assert_eq!(session.value(None, Some("NoSuchValue")).unwrap(), None);
    session.set_value(Some("com.apple.mobile.wireless_lockdown"), "EnableWifiConnections", true.into()).unwrap();
    let enabled = session.value(Some("com.apple.mobile.wireless_lockdown"), Some("EnableWifiConnections")).unwrap();
    assert_eq!(enabled.unwrap().as_boolean(), Some(true));
    let unknown = session.start_service("com.apple.nothing", false).map(drop);
    assert!(matches!(unknown, Err(Error::Service { .. })), "{unknown:?}");
    session.stop().unwrap();

    simulator.set_fault(Some(Fault::Impostor));
    let impostor = door().start_session(&found).map(drop);
    assert!(matches!(impostor, Err(Error::WrongCertificate)), "{impostor:?}");
    simulator.set_fault(None);

    door().unpair(&found).unwrap();
    let forgotten = door().start_session(&found).map(drop);
    assert!(matches!(forgotten, Err(Error::InvalidHostId)), "{forgotten:?}");
    records.delete(&device.udid).unwrap();
    assert!(matches!(records.find(&device.udid), Err(Error::NotPaired { .. })));
}

#[test]
fn a_pairing_by_usbmuxd_is_followed() {
    let (simulator, mux, device) = start(Trust::ByMuxer);
    let folder = tempfile::tempdir().unwrap();
    let records = PairRecords { mux: &mux, folders: Vec::new(), own_folder: folder.path().join("own") };
    let mut waited = 0;
    let record = pair(&mux, &device, &mut || {
        waited += 1;
        waited < 5
    });
    let record = record.unwrap();
    assert_eq!((waited, record.host_id.as_str()), (1, "HOST-OF-THE-MUXER"));
    assert!(record.escrow_bag.is_some());
    assert_eq!(records.save(&device, &record).unwrap(), SavedIn::Mux);
    let mut session = Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).unwrap();
    drop(session.start_service("com.apple.afc", true).unwrap());
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn a_record_that_the_phone_forgot_is_not_followed() {
    let (simulator, mux, device) = start(Trust::Accept);
    let old = pair(&mux, &device, &mut || false).unwrap();
    simulator.forget_pairings();
    simulator.set_trust(Trust::Pending(2));
    // Some program brings an old record back while the dialog is open.
    let record = pair(&mux, &device, &mut || {
        mux.save_pair_record(&device, &old.to_xml().unwrap()).unwrap();
        true
    });
    let record = record.unwrap();
    assert_ne!(record.host_id, old.host_id);
    Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).unwrap();
}

#[test]
fn a_short_key_of_an_old_phone_verifies() {
    let (simulator, mux, device) = start_with(Options { short_key: true, ..Options::default() });
    let record = pair(&mux, &device, &mut || false).unwrap();
    let door = || Lockdown::connect(&mux, &device, LABEL).unwrap();
    let mut session = door().start_session(&record).unwrap();
    assert_eq!(session.text(None, "UniqueDeviceID").unwrap().unwrap(), device.udid);
    drop(session.start_service("com.apple.afc", true).unwrap());
    assert_eq!(simulator.complaints(), [""; 0]);
    simulator.set_fault(Some(Fault::Impostor));
    let impostor = door().start_session(&record).map(drop);
    assert!(matches!(impostor, Err(Error::WrongCertificate)), "{impostor:?}");
}

#[test]
fn a_phone_is_known_by_its_key() {
    let (simulator, mux, device) = start(Trust::Accept);
    let record = pair(&mux, &device, &mut || false).unwrap();
    simulator.set_fault(Some(Fault::OtherCertificate));
    let mut session = Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).unwrap();
    drop(session.start_service("com.apple.afc", true).unwrap());
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn a_phone_that_forgot_closes_in_tls() {
    let (simulator, mux, device) = start(Trust::Accept);
    let record = pair(&mux, &device, &mut || false).unwrap();
    simulator.set_fault(Some(Fault::ForgottenInTls));
    let forgotten = Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).map(drop);
    assert!(matches!(forgotten, Err(Error::Forgotten)), "{forgotten:?}");
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn an_old_phone_is_told_of_before_tls() {
    let (simulator, mux, device) = start_with(Options { version: Some("9.3.5"), ..Options::default() });
    let refused = pair(&mux, &device, &mut || false).map(drop);
    assert!(matches!(&refused, Err(Error::TooOld { version }) if version == "9.3.5"), "{refused:?}");
    let record = Connected::new(Options::default()).record;
    let refused = Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).map(drop);
    assert!(matches!(refused, Err(Error::TooOld { .. })), "{refused:?}");
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn a_phone_on_both_ways_is_met_by_its_cable() {
    let (simulator, mux, _) = start_with(Options { network: true, ..Options::default() });
    let both = mux.devices().unwrap();
    let ways: Vec<_> = both.iter().map(|device| device.connection).collect();
    assert_eq!(ways, [Connection::Network, Connection::Usb]);
    assert!(both.iter().all(|device| device.udid == simulator.udid()));
    let refused = pair(&mux, &both[0], &mut || true).map(drop);
    assert!(matches!(refused, Err(Error::PairingProhibited)), "{refused:?}");

    assert_eq!(mux::once_each(both.clone()), both[1..]);
    assert_eq!(mux::find(&mux, simulator.udid()).unwrap(), both[1]);
    assert_eq!(mux::wait_for(&mux, simulator.udid(), Duration::from_secs(5)).unwrap(), both[1]);
    let record = pair(&mux, &both[1], &mut || true).unwrap();
    for device in &both {
        Lockdown::connect(&mux, device, LABEL).unwrap().start_session(&record).unwrap();
    }
    let mut events = mux.listen().unwrap();
    let mut next = || events.next(Duration::from_secs(5)).unwrap();
    let attached: Vec<_> = both.iter().cloned().map(|device| Some(Event::Attached(device))).collect();
    assert_eq!([next(), next()], attached[..]);
    simulator.unplug();
    assert_eq!(next(), Some(Event::Detached(both[1].device_id)));
    assert_eq!(mux::find(&mux, simulator.udid()).unwrap(), both[0]);
    Lockdown::connect(&mux, &both[0], LABEL).unwrap().start_session(&record).unwrap();
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn no_private_key_is_among_the_bytes_that_leave() {
    let (simulator, mux, device) = start(Trust::Accept);
    let mux = Wiretap { mux, sent: Arc::default() };
    let record = pair(&mux, &device, &mut || false).unwrap();
    Lockdown::connect(&mux, &device, LABEL).unwrap().unpair(&record).unwrap();
    let sent = mux.sent.lock().unwrap().clone();
    // What was sent, what its property lists hold as data, and all that is in PEM within that.
    let data = data_contents(&sent);
    let mut shown: Vec<_> = data.iter().flat_map(|data| pem_contents(data)).collect();
    assert_eq!(shown.len(), 6, "three certificates were to be sent, twice");
    shown.extend(data);
    shown.push(sent);
    let is_shown = |secret: &[u8]| shown.iter().any(|bytes| bytes.windows(secret.len()).any(|part| part == secret));
    for pem in [&record.host_private_key, record.root_private_key.as_ref().unwrap()] {
        let der = pem_contents(pem).remove(0);
        let [modulus, secrets @ ..] = rsa_numbers(&der);
        // So that the search is known to find what is there.
        assert!(is_shown(&modulus));
        for secret in secrets.iter().map(Vec::as_slice).chain([&der[..], pem]) {
            assert!(!is_shown(secret));
        }
    }
    assert!(!is_shown(b"PRIVATE KEY"));
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn a_locked_or_forgetful_phone_says_so() {
    let phone = Connected::new(Options::default());
    phone.simulator.forget_pairings();
    assert!(matches!(phone.session().map(drop), Err(Error::InvalidHostId)));
    phone.simulator.set_locked(true);
    let refused = pair(&phone.mux, &phone.device(), &mut || true);
    assert!(matches!(refused, Err(Error::PasswordProtected)), "{refused:?}");
    phone.simulator.detach();
    let device = DeviceEntry { device_id: 1, udid: phone.record.udid.clone(), connection: Connection::Usb };
    let gone = Lockdown::connect(&phone.mux, &device, LABEL).map(drop);
    assert!(matches!(gone, Err(Error::NoDevice { .. })), "{gone:?}");
}

/// What is between the lines of each PEM in `bytes`, decoded.
fn pem_contents(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("-----BEGIN ").skip(1).filter_map(|part| {
        let (_, rest) = part.split_once("-----")?;
        let (body, _) = rest.split_once("-----END")?;
        base64(body)
    });
    parts.collect()
}

/// The data that the property lists in `bytes`, which are XML, hold.
fn data_contents(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    text.split("<data>").skip(1).filter_map(|part| base64(part.split_once("</data>")?.0)).collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.split_ascii_whitespace().collect::<String>()).ok()
}

/// Of an RSA key in PKCS#8: the modulus, which is public, then the private exponent and both primes, which are not.
fn rsa_numbers(der: &[u8]) -> [Vec<u8>; 4] {
    fn value(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ ..0x80 => (usize::from(short), 2),
            long => {
                let width = usize::from(long - 0x80);
                (der[2..2 + width].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + width)
            }
        };
        der[start..].split_at(length)
    }
    let (info, _) = value(der);
    let (_version, rest) = value(info);
    let (_algorithm, rest) = value(rest);
    let (mut rest, _) = value(value(rest).0);
    let mut numbers = Vec::new();
    while numbers.len() < 6 {
        let (number, after) = value(rest);
        numbers.push(number.to_vec());
        rest = after;
    }
    let [_version, modulus, _public_exponent, exponent, prime, other_prime] = numbers.try_into().unwrap();
    [modulus, exponent, prime, other_prime]
}

/// A muxer that keeps what is written to the phone.
struct Wiretap {
    mux: Usbmuxd,
    sent: Arc<Mutex<Vec<u8>>>,
}

struct Tapped {
    stream: Box<dyn Stream>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Mux for Wiretap {
    fn devices(&self) -> Result<Vec<DeviceEntry>> {
        self.mux.devices()
    }

    fn connect(&self, device: &DeviceEntry, port: u16) -> Result<Box<dyn Stream>> {
        Ok(Box::new(Tapped { stream: self.mux.connect(device, port)?, sent: self.sent.clone() }))
    }

    fn read_pair_record(&self, udid: &str) -> Result<Option<Vec<u8>>> {
        self.mux.read_pair_record(udid)
    }

    fn save_pair_record(&self, device: &DeviceEntry, record: &[u8]) -> Result<()> {
        self.mux.save_pair_record(device, record)
    }

    fn delete_pair_record(&self, udid: &str) -> Result<()> {
        self.mux.delete_pair_record(udid)
    }

    fn read_buid(&self) -> Result<Option<String>> {
        self.mux.read_buid()
    }

    fn listen(&self) -> Result<Box<dyn HotPlug>> {
        self.mux.listen()
    }
}

impl Read for Tapped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.sent.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Tapped {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }
}
