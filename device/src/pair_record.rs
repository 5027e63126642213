//! The pair record: what this computer keeps of a pairing, and where.
//!
//! A property list {HostID, SystemBUID, HostCertificate, HostPrivateKey, RootCertificate, RootPrivateKey,
//! DeviceCertificate, EscrowBag, WiFiMACAddress, UDID}, certificates and keys in PEM. usbmuxd keeps it for all
//! programs; where that cannot be asked or has none, folders of `<udid>.plist` are looked through.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use plist::{Dictionary, Value};

use crate::{
    Error, Result,
    mux::{DeviceEntry, Mux, canonical_udid},
    property_list,
};

const MAX_RECORD_BYTES: u64 = 1 << 20;

/// A pairing of this computer with a phone.
#[derive(Clone, PartialEq, Eq)]
pub struct PairRecord {
    /// The phone.
    pub udid: String,
    /// The name of this pairing, a UUID.
    pub host_id: String,
    /// The name of this computer towards all phones, a UUID.
    pub system_buid: String,
    /// This computer's certificate, in PEM.
    pub host_certificate: Vec<u8>,
    /// Its key. Never leaves this computer.
    pub host_private_key: Vec<u8>,
    /// The certificate that signed the others.
    pub root_certificate: Vec<u8>,
    /// Its key; never needed again. Never leaves this computer.
    pub root_private_key: Option<Vec<u8>>,
    /// The certificate that the phone shows.
    pub device_certificate: Vec<u8>,
    /// Lets services read protected files while the phone is locked; none if it was locked when pairing.
    pub escrow_bag: Option<Vec<u8>>,
    /// The phone's Wi-Fi address.
    pub wifi_mac_address: Option<String>,
}

impl PairRecord {
    /// Reads a record of the phone `udid`, binary or XML.
    ///
    /// # Errors
    /// [`Error::PairRecord`] names what is missing or malformed.
    pub fn parse(udid: &str, bytes: &[u8]) -> Result<Self> {
        let unusable = |what: String| Error::PairRecord { udid: udid.to_owned(), what };
        if bytes.len() as u64 > MAX_RECORD_BYTES {
            return Err(unusable(format!("{} bytes", bytes.len())));
        }
        let record = property_list::read_dictionary(bytes).map_err(|error| unusable(error.to_string()))?;
        let text = |key: &str| property_list::string(&record, key).ok_or_else(|| unusable(format!("it has no {key}")));
        let data = |key: &str| property_list::data(&record, key).ok_or_else(|| unusable(format!("it has no {key}")));
        Ok(PairRecord {
            udid: udid.to_owned(),
            host_id: text("HostID")?,
            system_buid: text("SystemBUID")?,
            host_certificate: data("HostCertificate")?,
            host_private_key: data("HostPrivateKey")?,
            root_certificate: data("RootCertificate")?,
            root_private_key: property_list::data(&record, "RootPrivateKey"),
            device_certificate: data("DeviceCertificate")?,
            escrow_bag: property_list::data(&record, "EscrowBag"),
            wifi_mac_address: property_list::string(&record, "WiFiMACAddress"),
        })
    }

    /// The whole record with its private keys, in XML, as other programs expect it.
    ///
    /// # Errors
    /// [`Error::Protocol`] for text that XML cannot hold.
    pub fn to_xml(&self) -> Result<Vec<u8>> {
        let mut record = self.public_part();
        record.insert("UDID".into(), self.udid.clone().into());
        record.insert("HostPrivateKey".into(), Value::Data(self.host_private_key.clone()));
        let optional = [("RootPrivateKey", &self.root_private_key), ("EscrowBag", &self.escrow_bag)];
        for (key, value) in optional {
            if let Some(value) = value {
                record.insert(key.into(), Value::Data(value.clone()));
            }
        }
        if let Some(address) = &self.wifi_mac_address {
            record.insert("WiFiMACAddress".into(), address.clone().into());
        }
        let mut xml = Vec::new();
        Value::Dictionary(record)
            .to_writer_xml(&mut xml)
            .map_err(|error| Error::protocol(format!("a pair record that cannot be written: {error}")))?;
        Ok(xml)
    }

    /// What the phone is shown: certificates and names.
    pub(crate) fn public_part(&self) -> Dictionary {
        let certificates = [
            ("DeviceCertificate", &self.device_certificate),
            ("HostCertificate", &self.host_certificate),
            ("RootCertificate", &self.root_certificate),
        ];
        let names = [("HostID", &self.host_id), ("SystemBUID", &self.system_buid)];
        let certificates = certificates.map(|(key, pem)| (key.to_owned(), Value::Data(pem.clone())));
        let names = names.map(|(key, name)| (key.to_owned(), Value::String(name.clone())));
        certificates.into_iter().chain(names).collect()
    }
}

impl fmt::Debug for PairRecord {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairRecord")
            .field("udid", &self.udid)
            .field("host_id", &self.host_id)
            .field("escrow_bag", &self.escrow_bag.is_some())
            .finish_non_exhaustive()
    }
}

/// The places where pair records are looked for, in order: the muxer, then `folders`, then `own_folder`.
pub struct PairRecords<'m> {
    /// Asked first; it needs no rights on files.
    pub mux: &'m dyn Mux,
    /// Folders of other programs, only read: `/var/lib/lockdown`, `/var/db/lockdown`, `%ALLUSERSPROFILE%\Apple\Lockdown`.
    pub folders: Vec<PathBuf>,
    /// A folder of our own, made when it is needed.
    pub own_folder: PathBuf,
}

/// Where a record was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedIn {
    /// The muxer keeps it, for all programs.
    Mux,
    /// A file of our own.
    File(PathBuf),
}

impl PairRecords<'_> {
    /// The first usable record of this phone.
    ///
    /// # Errors
    /// As [`PairRecords::all`].
    pub fn find(&self, udid: &str) -> Result<PairRecord> {
        Ok(self.all(udid)?.swap_remove(0))
    }

    /// The usable records of this phone, each once, at least one. The phone may have forgotten the first and know another.
    ///
    /// # Errors
    /// [`Error::NotPaired`]; [`Error::PairRecord`] if there are records but none can be used.
    pub fn all(&self, udid: &str) -> Result<Vec<PairRecord>> {
        let mut verdict = Error::NotPaired { udid: udid.to_owned() };
        let from_mux = || self.mux.read_pair_record(udid).ok().flatten();
        let folders = self.folders.iter().chain([&self.own_folder]);
        let from_files = folders.filter_map(|folder| read_bounded(&file_in(folder, udid)?).ok());
        let mut records: Vec<PairRecord> = Vec::new();
        for bytes in std::iter::once_with(from_mux).flatten().chain(from_files) {
            match PairRecord::parse(udid, &bytes) {
                Ok(record) if records.contains(&record) => {}
                Ok(record) => records.push(record),
                Err(error) => verdict = error,
            }
        }
        if records.is_empty() { Err(verdict) } else { Ok(records) }
    }

    /// Gives the record to the muxer, or keeps it in our own folder if that has no place for it. One that the muxer keeps
    /// already stays as it is there, with what another program has noted in it.
    ///
    /// # Errors
    /// [`Error::Host`] if it can be kept nowhere.
    pub fn save(&self, device: &DeviceEntry, record: &PairRecord) -> Result<SavedIn> {
        let kept = self.mux.read_pair_record(&device.udid).ok().flatten();
        if kept.and_then(|kept| PairRecord::parse(&device.udid, &kept).ok()).as_ref() == Some(record) {
            return Ok(SavedIn::Mux);
        }
        let xml = record.to_xml()?;
        if self.mux.save_pair_record(device, &xml).is_ok()
            && self.mux.read_pair_record(&device.udid).is_ok_and(|kept| kept.is_some())
        {
            return Ok(SavedIn::Mux);
        }
        let path =
            file_in(&self.own_folder, &device.udid).ok_or_else(|| Error::Host(io::ErrorKind::InvalidInput.into()))?;
        write_private(&path, &xml).map_err(Error::Host)?;
        Ok(SavedIn::File(path))
    }

    /// Forgets the phone: in the muxer and in our own folder.
    ///
    /// # Errors
    /// What the muxer or the disk says; that there is no record is no error.
    pub fn delete(&self, udid: &str) -> Result<()> {
        if let Some(path) = file_in(&self.own_folder, udid) {
            fs::remove_file(path)
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .map_err(Error::Host)?;
        }
        self.mux.delete_pair_record(udid)
    }
}

/// The record's file, if the identifier is one.
fn file_in(folder: &Path, udid: &str) -> Option<PathBuf> {
    Some(folder.join(format!("{}.plist", canonical_udid(udid)?)))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut create_folder = fs::DirBuilder::new();
    create_folder.recursive(true);
    let mut create_file = fs::OpenOptions::new();
    create_file.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut create_folder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut create_file, 0o600);
    }
    create_folder.create(folder)?;
    let unfinished = path.with_extension("new");
    // A left-over may have other rights.
    let _ = fs::remove_file(&unfinished);
    let mut file = create_file.open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Stream,
        mux::{Connection, HotPlug},
        pairing::tests::paired,
    };

    /// A muxer that keeps one record, or refuses to.
    struct OneRecord {
        record: Mutex<Option<Vec<u8>>>,
        keeps: bool,
    }

    impl Mux for OneRecord {
        fn devices(&self) -> Result<Vec<DeviceEntry>> {
            Ok(Vec::new())
        }
        fn connect(&self, _: &DeviceEntry, port: u16) -> Result<Box<dyn Stream>> {
            Err(Error::Refused { port })
        }
        fn read_pair_record(&self, _: &str) -> Result<Option<Vec<u8>>> {
            if self.keeps { Ok(self.record.lock().unwrap().clone()) } else { Err(Error::Timeout) }
        }
        fn save_pair_record(&self, _: &DeviceEntry, record: &[u8]) -> Result<()> {
            *self.record.lock().unwrap() = Some(record.to_vec());
            if self.keeps { Ok(()) } else { Err(Error::Timeout) }
        }
        fn delete_pair_record(&self, _: &str) -> Result<()> {
            *self.record.lock().unwrap() = None;
            Ok(())
        }
        fn read_buid(&self) -> Result<Option<String>> {
            Ok(None)
        }
        fn listen(&self) -> Result<Box<dyn HotPlug>> {
            Err(Error::Timeout)
        }
    }

    fn mux(keeps: bool) -> OneRecord {
        OneRecord { record: Mutex::new(None), keeps }
    }

    fn device() -> DeviceEntry {
        DeviceEntry { device_id: 1, udid: paired().udid, connection: Connection::Usb }
    }

    #[test]
    fn a_record_survives_its_property_list() {
        let mut record = paired();
        assert_eq!(PairRecord::parse(&record.udid, &record.to_xml().unwrap()).unwrap(), record);
        record.escrow_bag = Some(vec![1, 2, 3]);
        record.root_private_key = None;
        record.wifi_mac_address = None;
        assert_eq!(PairRecord::parse(&record.udid, &record.to_xml().unwrap()).unwrap(), record);
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = property_list::read_dictionary(&paired().to_xml().unwrap()).unwrap();
        for key in ["HostID", "SystemBUID", "HostCertificate", "HostPrivateKey", "RootCertificate", "DeviceCertificate"]
        {
            let mut record = whole.clone();
            record.remove(key);
            let mut bytes = Vec::new();
            Value::Dictionary(record).to_writer_binary(&mut bytes).unwrap();
            let refused = PairRecord::parse("u", &bytes).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
        assert!(PairRecord::parse("u", &vec![b' '; 2 << 20]).is_err());
    }

    #[test]
    fn neither_what_the_phone_sees_nor_the_log_holds_a_private_key() {
        let record = paired();
        let public = format!("{:?}", record.public_part());
        let mut plist = Vec::new();
        Value::Dictionary(record.public_part()).to_writer_xml(&mut plist).unwrap();
        let keys = [&record.host_private_key, record.root_private_key.as_ref().unwrap()];
        for key in keys {
            assert!(std::str::from_utf8(key).unwrap().contains("PRIVATE KEY"));
        }
        let sent: Vec<_> = record.public_part().into_iter().filter_map(|(_, value)| value.into_data()).collect();
        assert!(sent.iter().all(|data| !String::from_utf8_lossy(data).contains("PRIVATE")));
        assert!(!public.contains("PrivateKey") && !format!("{record:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_muxer_is_asked_first_and_folders_in_order_after_it() {
        let home = tempfile::tempdir().unwrap();
        let (system, own) = (home.path().join("system"), home.path().join("own"));
        let mux = mux(true);
        let records = PairRecords { mux: &mux, folders: vec![system.clone()], own_folder: own.clone() };
        let udid = paired().udid;
        assert!(matches!(records.find(&udid), Err(Error::NotPaired { .. })));
        let named = |name: &str| PairRecord { host_id: name.into(), ..paired() };
        let file = |folder: &Path| folder.join(format!("{udid}.plist"));
        write_private(&file(&own), &named("own").to_xml().unwrap()).unwrap();
        assert_eq!(records.find(&udid).unwrap().host_id, "own");
        write_private(&file(&system), b"damaged").unwrap();
        assert_eq!(records.find(&udid).unwrap().host_id, "own");
        write_private(&file(&system), &named("system").to_xml().unwrap()).unwrap();
        assert_eq!(records.find(&udid).unwrap().host_id, "system");
        assert_eq!(records.save(&device(), &named("mux")).unwrap(), SavedIn::Mux);
        assert_eq!(records.find(&udid).unwrap().host_id, "mux");
        let all = || records.all(&udid).unwrap().into_iter().map(|record| record.host_id).collect::<Vec<_>>();
        assert_eq!(all(), ["mux", "system", "own"]);
        write_private(&file(&system), &named("own").to_xml().unwrap()).unwrap();
        assert_eq!(all(), ["mux", "own"]);
        write_private(&file(&system), &named("system").to_xml().unwrap()).unwrap();
        records.delete(&udid).unwrap();
        assert_eq!(records.find(&udid).unwrap().host_id, "system");
        assert!(!file(&own).exists());
        write_private(&file(&system), b"damaged").unwrap();
        assert!(matches!(records.find(&udid), Err(Error::PairRecord { .. })));
    }

    #[test]
    fn a_record_that_the_muxer_has_stays_as_it_is() {
        let mux = mux(true);
        let records = PairRecords { mux: &mux, folders: vec![], own_folder: PathBuf::from("nowhere") };
        let mut more = property_list::read_dictionary(&paired().to_xml().unwrap()).unwrap();
        more.insert("NoteOfAnother".into(), true.into());
        let mut bytes = Vec::new();
        Value::Dictionary(more).to_writer_binary(&mut bytes).unwrap();
        mux.save_pair_record(&device(), &bytes).unwrap();
        assert_eq!(records.save(&device(), &paired()).unwrap(), SavedIn::Mux);
        assert_eq!(mux.read_pair_record("").unwrap(), Some(bytes));
    }

    #[test]
    #[cfg(unix)]
    fn a_record_that_the_muxer_refuses_is_kept_in_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let mux = mux(false);
        let records = PairRecords { mux: &mux, folders: vec![], own_folder: home.path().join("a/pairings") };
        let SavedIn::File(path) = records.save(&device(), &paired()).unwrap() else { panic!("not a file") };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(records.find(&paired().udid).unwrap(), paired());
    }

    #[test]
    fn no_identifier_leads_out_of_the_folders() {
        for hostile in ["../../etc/passwd", "/etc/passwd", "", "a\\b", "a.b"] {
            assert_eq!(file_in(Path::new("folder"), hostile), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            prop_assert!(PairRecord::parse("u", &bytes).is_err());
            let whole = paired().to_xml().unwrap();
            let cut = cut.index(whole.len() - "</plist>".len());
            prop_assert!(PairRecord::parse("u", &whole[..cut]).is_err());
        }
    }
}
