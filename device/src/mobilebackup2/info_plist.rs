//! Info.plist: what the host adds to a backup. The phone reads it only when it restores.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use plist::{Dictionary, Value};

use crate::{Error, PlistError, Result, property_list};

/// The first second that XML can hold, in seconds before 1970.
const YEAR_0_BEGINS: u64 = 62_167_219_200;
/// The last one, in seconds since 1970.
const YEAR_9999_ENDS: u64 = 253_402_300_799;

/// The files of AFC's `/iTunes_Control/iTunes/` that belong into Info.plist, those that exist.
pub const ITUNES_FILES: [&str; 11] = [
    "ApertureAlbumPrefs",
    "IC-Info.sidb",
    "IC-Info.sidv",
    "PhotosFolderAlbums",
    "PhotosFolderName",
    "PhotosFolderPrefs",
    "VoiceMemos.plist",
    "iPhotoAlbumPrefs",
    "iTunesApplicationIDs",
    "iTunesPrefs",
    "iTunesPrefs.plist",
];

/// The file of AFC that becomes [`InfoPlist::ibooks_data`].
pub const IBOOKS_DATA: &str = "/Books/iBooksData2.plist";

/// Where `MinITunesVersion` is unknown: some iPads do not have it.
const ITUNES_VERSION: &str = "10.0.1";

/// Info.plist's keys that have the same value as one of lockdown's.
const FROM_LOCKDOWN: [(&str, &str); 11] = [
    ("Build Version", "BuildVersion"),
    ("Device Name", "DeviceName"),
    ("Display Name", "DeviceName"),
    ("ICCID", "IntegratedCircuitCardIdentity"),
    ("IMEI", "InternationalMobileEquipmentIdentity"),
    ("MEID", "MobileEquipmentIdentifier"),
    ("Phone Number", "PhoneNumber"),
    ("Product Type", "ProductType"),
    ("Product Version", "ProductVersion"),
    ("Serial Number", "SerialNumber"),
    ("Target Identifier", "UniqueDeviceID"),
];

/// What Info.plist is made of.
#[derive(Debug, Clone)]
pub struct InfoPlist<'a> {
    /// All values of lockdown's global domain.
    pub device: &'a Dictionary,
    /// The marketing name of the model, such as `iPhone 12`.
    pub product_name: Option<&'a str>,
    /// `MinITunesVersion` in lockdown's domain `com.apple.mobile.iTunes`.
    pub min_itunes_version: Option<&'a str>,
    /// All values of lockdown's domain `com.apple.iTunes`.
    pub itunes_settings: Dictionary,
    /// The contents of [`ITUNES_FILES`], by name.
    pub itunes_files: BTreeMap<String, Vec<u8>>,
    /// The content of [`IBOOKS_DATA`].
    pub ibooks_data: Option<Vec<u8>>,
    /// The apps that the user installed.
    pub apps: Vec<App>,
    /// Random.
    pub guid: [u8; 16],
    /// Now.
    pub date: SystemTime,
}

/// An app that the user installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct App {
    /// `CFBundleIdentifier`.
    pub bundle_id: String,
    /// `ApplicationSINF`: the licence.
    pub sinf: Option<Vec<u8>>,
    /// `iTunesMetadata`.
    pub itunes_metadata: Option<Vec<u8>>,
    /// springboardservices' `getIconPNGData`.
    pub icon: Option<Vec<u8>>,
}

impl App {
    /// An app as installation_proxy's Browse describes it, still without its icon; `None` without a bundle id.
    pub fn from_browse(app: &Dictionary) -> Option<App> {
        Some(App {
            bundle_id: property_list::string(app, "CFBundleIdentifier")?,
            sinf: property_list::data(app, "ApplicationSINF"),
            itunes_metadata: property_list::data(app, "iTunesMetadata"),
            icon: None,
        })
    }

    /// Its entry under `Applications`; `None` for one that could not be installed from it.
    fn entry(self) -> Option<Dictionary> {
        let mut entry = Dictionary::new();
        entry.insert("ApplicationSINF".into(), Value::Data(self.sinf?));
        entry.insert("iTunesMetadata".into(), Value::Data(self.itunes_metadata?));
        if let Some(icon) = self.icon {
            entry.insert("PlaceholderIcon".into(), Value::Data(icon));
        }
        Some(entry)
    }
}

impl InfoPlist<'_> {
    /// The file, in XML, as iTunes writes it.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the phone's values cannot be written.
    pub fn to_xml(self) -> Result<Vec<u8>> {
        to_xml(Value::Dictionary(self.into_dictionary()))
    }

    fn into_dictionary(self) -> Dictionary {
        let mut info = Dictionary::new();
        for (key, lockdown_key) in FROM_LOCKDOWN {
            if let Some(text) = property_list::string(self.device, lockdown_key) {
                info.insert(key.into(), text.into());
            }
        }
        if let Some(udid) = property_list::string(self.device, "UniqueDeviceID") {
            info.insert("Unique Identifier".into(), udid.to_uppercase().into());
        }
        if let Some(name) = self.product_name {
            info.insert("Product Name".into(), name.into());
        }
        info.insert("Target Type".into(), "Device".into());
        info.insert("GUID".into(), self.guid.map(|byte| format!("{byte:02X}")).concat().into());
        info.insert("Last Backup Date".into(), Value::Date(self.date.into()));
        info.insert("iTunes Version".into(), self.min_itunes_version.unwrap_or(ITUNES_VERSION).into());
        info.insert("iTunes Settings".into(), self.itunes_settings.into());
        let files = self.itunes_files.into_iter().map(|(name, content)| (name, Value::Data(content)));
        info.insert("iTunes Files".into(), Value::Dictionary(files.collect()));
        if let Some(data) = self.ibooks_data {
            info.insert("iBooks Data 2".into(), Value::Data(data));
        }
        let ids = self.apps.iter().map(|app| Value::from(app.bundle_id.as_str()));
        info.insert("Installed Applications".into(), Value::Array(ids.collect()));
        let apps = self.apps.into_iter().filter_map(|app| {
            let id = app.bundle_id.clone();
            Some((id, Value::Dictionary(app.entry()?)))
        });
        info.insert("Applications".into(), Value::Dictionary(apps.collect()));
        info
    }
}

/// RestoreApplications.plist, from a backup's Info.plist: its `Applications`, in XML. `None` if it has none.
///
/// # Errors
/// [`Error::Plist`] if `info_plist` is no property list.
pub fn restore_applications(info_plist: &[u8]) -> Result<Option<Vec<u8>>> {
    let applications = property_list::read_dictionary(info_plist)?.remove("Applications");
    match applications {
        Some(Value::Dictionary(apps)) if !apps.is_empty() => to_xml(Value::Dictionary(apps)).map(Some),
        _ => Ok(None),
    }
}

fn to_xml(mut value: Value) -> Result<Vec<u8>> {
    make_writable(&mut value);
    let mut xml = Vec::new();
    value.to_writer_xml(&mut xml).map_err(|error| Error::protocol(format!("values for Info.plist: {error}")))?;
    if xml.len() as u64 > property_list::MAX_FILE_BYTES {
        return Err(Error::Plist(PlistError::TooLarge { bytes: xml.len() as u64 }));
    }
    Ok(xml)
}

/// Takes out of texts the characters that XML cannot hold, as a phone's name may have any, and out of dates the parts of
/// seconds, which Apple's form of them has no place for.
fn make_writable(value: &mut Value) {
    match value {
        Value::String(text) => text.retain(is_xml),
        Value::Date(date) => *date = whole_seconds((*date).into()).into(),
        Value::Array(items) => items.iter_mut().for_each(make_writable),
        Value::Dictionary(dictionary) => {
            *dictionary = std::mem::take(dictionary)
                .into_iter()
                .map(|(mut key, mut value)| {
                    key.retain(is_xml);
                    make_writable(&mut value);
                    (key, value)
                })
                .collect();
        }
        _ => {}
    }
}

/// The nearest time that XML can hold: of whole seconds, from the year 0 to the end of 9999.
fn whole_seconds(time: SystemTime) -> SystemTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => UNIX_EPOCH + Duration::from_secs(since.as_secs().min(YEAR_9999_ENDS)),
        Err(before) => UNIX_EPOCH - Duration::from_secs(before.duration().as_secs().min(YEAR_0_BEGINS)),
    }
}

fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Info;

    fn device() -> Dictionary {
        [
            ("DeviceName", "Grandma's\u{1} phone & <tablet>"),
            ("ProductType", "iPhone13,2"),
            ("ProductVersion", "17.5"),
            ("BuildVersion", "21F79"),
            ("SerialNumber", "F2L"),
            ("UniqueDeviceID", "00008101-000abc"),
            ("PhoneNumber", "+49 1"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect()
    }

    fn info(device: &Dictionary) -> InfoPlist<'_> {
        InfoPlist {
            device,
            product_name: None,
            min_itunes_version: None,
            itunes_settings: Dictionary::new(),
            itunes_files: BTreeMap::from([("iTunesPrefs".to_owned(), vec![1, 2])]),
            ibooks_data: None,
            apps: vec![
                App {
                    bundle_id: "org.example.paid".into(),
                    sinf: Some(vec![3]),
                    itunes_metadata: Some(vec![4]),
                    icon: Some(vec![5]),
                },
                App { bundle_id: "org.example.sideloaded".into(), ..App::default() },
            ],
            guid: [0xab; 16],
            date: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_987_654_321),
        }
    }

    #[test]
    fn our_own_reader_reads_it() {
        let device = device();
        let xml = info(&device).to_xml().unwrap();
        assert!(String::from_utf8_lossy(&xml).contains("<date>2023-11-14T22:13:20Z</date>"));
        let read = Info::parse(&xml).unwrap();
        assert_eq!(read.udid.unwrap(), "00008101-000abc");
        assert_eq!(read.device_name.unwrap(), "Grandma's phone & <tablet>");
        assert_eq!(read.display_name.unwrap(), "Grandma's phone & <tablet>");
        assert_eq!(read.product_version.unwrap(), "17.5");
        assert_eq!(read.build_version.unwrap(), "21F79");
        assert_eq!(read.last_backup.unwrap(), UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn clocks_beyond_the_calendar_are_written_as_its_end() {
        let device = device();
        let far = Duration::from_secs(400_000_000_000);
        for (date, written) in [(UNIX_EPOCH + far, "9999-12-31T23:59:59Z"), (UNIX_EPOCH - far, "0000-01-01T00:00:00Z")]
        {
            let xml = InfoPlist { date, ..info(&device) }.to_xml().unwrap();
            assert!(String::from_utf8_lossy(&xml).contains(&format!("<date>{written}</date>")), "{written}");
        }
    }

    #[test]
    fn absent_values_have_no_key_and_the_others_their_form() {
        let device = device();
        let info = info(&device).into_dictionary();
        let text = |key: &str| info.get(key).and_then(Value::as_string);
        assert_eq!(text("Unique Identifier"), Some("00008101-000ABC"));
        assert_eq!(text("GUID"), Some("ABABABABABABABABABABABABABABABAB"));
        assert_eq!(text("iTunes Version"), Some("10.0.1"));
        assert_eq!(text("Phone Number"), Some("+49 1"));
        for absent in ["IMEI", "MEID", "ICCID", "Product Name", "iBooks Data 2"] {
            assert!(!info.contains_key(absent), "{absent}");
        }
        assert_eq!(info.get("Installed Applications").unwrap().as_array().unwrap().len(), 2);
    }

    #[test]
    fn only_apps_that_can_be_installed_are_restored() {
        let device = device();
        let xml = info(&device).to_xml().unwrap();
        let restored = restore_applications(&xml).unwrap().unwrap();
        assert!(restored.starts_with(b"<?xml"));
        let apps = property_list::read_dictionary(&restored).unwrap();
        assert_eq!(apps.keys().collect::<Vec<_>>(), ["org.example.paid"]);
        let app = apps.get("org.example.paid").unwrap().as_dictionary().unwrap();
        assert_eq!(app.get("ApplicationSINF").unwrap().as_data(), Some(&[3][..]));
        assert_eq!(app.get("PlaceholderIcon").unwrap().as_data(), Some(&[5][..]));
        assert_eq!(restore_applications(b"<plist><dict/></plist>").unwrap(), None);
        assert!(restore_applications(b"").is_err());
    }
}
