//! The phone's SQLite databases: real files, grown through SQLite to a share of the phone, then changed in place.
//! Tables and columns carry the names iOS gives them, so that readers of the real ones find what they look for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Result, params};

use crate::text::{self, Person};

/// One database: where it lies, how it is made and what a day does to it.
pub(crate) struct Database {
    pub domain: &'static str,
    pub path: &'static str,
    /// Share of all database bytes.
    pub share: f64,
    /// Whether the last transactions are left in a `-wal` file beside it.
    pub leaves_wal: bool,
    schema: &'static str,
    /// Table whose rows `touch` and `delete` pick from.
    table: &'static str,
    insert: fn(&mut Row) -> Result<()>,
    /// Updates row `?1` at the time `?2` (Unix seconds).
    touch: &'static str,
    /// Each deletes what belongs to row `?1`.
    delete: &'static [&'static str],
}

/// A record about to be inserted.
struct Row<'a> {
    db: &'a Connection,
    rng: &'a mut ChaCha8Rng,
    /// Unix seconds.
    at: i64,
    /// The phone's key, which tells who the people are.
    key: u64,
}

impl Row<'_> {
    fn cocoa(&self) -> i64 {
        cocoa(self.at)
    }
}

/// Runs a statement and returns the row inserted last.
fn run(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<i64> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(db.last_insert_rowid())
}

/// Seconds since 2001-01-01 00:00 UTC, as Core Data counts them.
fn cocoa(unix: i64) -> i64 {
    unix - 978_307_200
}

/// How much a day does to a database.
const DAILY_SHARE: f64 = 0.001;

impl Database {
    /// Name of its file in the phone's directory.
    pub(crate) fn file_name(&self) -> String {
        self.path.replace('/', "_")
    }

    /// Makes the database in `directory` with records until it holds `size` bytes, the last one inserted at `now`.
    pub(crate) fn create(&self, directory: &Path, size: u64, now: i64, key: u64) -> Result<()> {
        let db = self.open(directory)?;
        db.execute_batch("PRAGMA journal_mode = OFF; BEGIN")?;
        db.execute_batch(self.schema)?;
        let mut rng = text::rng(key, self.path, 0);
        let mut at = now - 4 * 365 * 86_400;
        loop {
            for _ in 0..50 {
                (self.insert)(&mut Row { db: &db, rng: &mut rng, at, key })?;
                // Approaches `now`, however many records it takes.
                at += (now - at) / 500;
            }
            let bytes =
                db.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
                    row.get::<_, i64>(0).map(|bytes| bytes as u64)
                })?;
            if bytes >= size {
                break;
            }
        }
        db.execute_batch("COMMIT; PRAGMA journal_mode = DELETE")?;
        if self.leaves_wal {
            db.execute_batch("PRAGMA journal_mode = WAL; BEGIN")?;
            for _ in 0..5 {
                (self.insert)(&mut Row { db: &db, rng: &mut rng, at, key })?;
            }
            db.execute_batch("COMMIT")?;
        }
        self.close(db, directory)
    }

    /// A day of use that ends at `now`: records come, are read here and there, and a few are deleted.
    pub(crate) fn live_one_day(&self, directory: &Path, now: i64, key: u64) -> Result<()> {
        let db = self.open(directory)?;
        if self.leaves_wal {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        let mut rng = text::rng(key, self.path, now as u64);
        let rows: i64 =
            db.query_row(&format!("SELECT coalesce(max(rowid), 0) FROM {}", self.table), [], |row| row.get(0))?;
        let inserts = ((rows as f64 * DAILY_SHARE) as i64).max(3);
        db.execute_batch("BEGIN")?;
        for number in 0..inserts {
            let at = now - 80_000 + 80_000 * number / inserts;
            (self.insert)(&mut Row { db: &db, rng: &mut rng, at, key })?;
        }
        for _ in 0..(inserts / 3).max(1) {
            db.prepare_cached(self.touch)?.execute(params![rng.random_range(1..=rows.max(1)), now])?;
        }
        for _ in 0..(inserts / 20).max(1) {
            let row = rng.random_range(1..=rows.max(1));
            for sql in self.delete {
                db.prepare_cached(sql)?.execute([row])?;
            }
        }
        db.execute_batch("COMMIT")?;
        self.close(db, directory)
    }

    /// Runs `change` in one transaction.
    pub(crate) fn change<T>(&self, directory: &Path, change: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let db = self.open(directory)?;
        db.execute_batch("BEGIN")?;
        let made = change(&db)?;
        db.execute_batch("COMMIT")?;
        self.close(db, directory)?;
        Ok(made)
    }

    fn open(&self, directory: &Path) -> Result<Connection> {
        let db = Connection::open(directory.join(self.file_name()))?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self.leaves_wal)?;
        db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -64000; PRAGMA temp_store = MEMORY")?;
        if !self.leaves_wal {
            db.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
        }
        Ok(db)
    }

    fn close(&self, db: Connection, directory: &Path) -> Result<()> {
        db.close().map_err(|(_, error)| error)?;
        if self.leaves_wal {
            let file = directory.join(self.file_name());
            let settled = settle_wal(&beside(&file, "-wal")).and_then(|()| fs::remove_file(beside(&file, "-shm")));
            settled.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        }
        Ok(())
    }
}

/// The path with `suffix` behind its file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Gives a write-ahead log fixed salts, for SQLite draws them at random, and the checksums that follow from them.
/// Layout: <https://www.sqlite.org/fileformat2.html#walformat>.
fn settle_wal(path: &Path) -> io::Result<()> {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    const SALTS: [u8; 8] = *b"heirloom";
    let mut wal = fs::read(path)?;
    let Some((header, frames)) = wal.split_at_mut_checked(HEADER) else {
        return Ok(());
    };
    let big_endian = header[3] & 1 == 1;
    let page_size = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    header[16..24].copy_from_slice(&SALTS);
    let mut sum = checksum([0; 2], &header[..24], big_endian);
    write_checksum(&mut header[24..32], sum);
    for frame in frames.chunks_exact_mut(FRAME_HEADER + page_size) {
        frame[8..16].copy_from_slice(&SALTS);
        sum = checksum(sum, &frame[..8], big_endian);
        sum = checksum(sum, &frame[FRAME_HEADER..], big_endian);
        write_checksum(&mut frame[16..24], sum);
    }
    fs::write(path, wal)
}

fn checksum(sum: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    let number = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(sum, |[first, second], pair| {
        let first = first.wrapping_add(number(&pair[..4])).wrapping_add(second);
        [first, second.wrapping_add(number(&pair[4..])).wrapping_add(first)]
    })
}

fn write_checksum(place: &mut [u8], [first, second]: [u32; 2]) {
    place[..4].copy_from_slice(&first.to_be_bytes());
    place[4..].copy_from_slice(&second.to_be_bytes());
}

/// Messages. Times are Cocoa nanoseconds.
pub(crate) const MESSAGES: Database = Database {
    domain: "HomeDomain",
    path: "Library/SMS/sms.db",
    share: 0.5,
    leaves_wal: false,
    schema: "
        CREATE TABLE _SqliteDatabaseProperties (key TEXT, value TEXT, UNIQUE(key));
        CREATE TABLE handle (ROWID INTEGER PRIMARY KEY AUTOINCREMENT UNIQUE, id TEXT NOT NULL, country TEXT,
            service TEXT NOT NULL, uncanonicalized_id TEXT, UNIQUE (id, service));
        CREATE TABLE chat (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE NOT NULL, style INTEGER, state INTEGER,
            account_id TEXT, chat_identifier TEXT, service_name TEXT, display_name TEXT);
        CREATE TABLE message (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE NOT NULL, text TEXT,
            handle_id INTEGER DEFAULT 0, attributedBody BLOB, service TEXT, account TEXT, error INTEGER DEFAULT 0,
            date INTEGER, date_read INTEGER, date_delivered INTEGER, is_delivered INTEGER DEFAULT 0,
            is_from_me INTEGER DEFAULT 0, is_read INTEGER DEFAULT 0, is_sent INTEGER DEFAULT 0,
            cache_has_attachments INTEGER DEFAULT 0, item_type INTEGER DEFAULT 0, associated_message_guid TEXT,
            associated_message_type INTEGER DEFAULT 0, thread_originator_guid TEXT, date_edited INTEGER DEFAULT 0,
            message_summary_info BLOB);
        CREATE TABLE chat_message_join (chat_id INTEGER, message_id INTEGER, message_date INTEGER DEFAULT 0,
            PRIMARY KEY (chat_id, message_id));
        CREATE TABLE chat_handle_join (chat_id INTEGER, handle_id INTEGER, UNIQUE (chat_id, handle_id));
        CREATE TABLE attachment (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE NOT NULL,
            created_date INTEGER DEFAULT 0, filename TEXT, uti TEXT, mime_type TEXT, transfer_state INTEGER DEFAULT 0,
            is_outgoing INTEGER DEFAULT 0, transfer_name TEXT, total_bytes INTEGER DEFAULT 0);
        CREATE TABLE message_attachment_join (message_id INTEGER, attachment_id INTEGER, UNIQUE (message_id, attachment_id));
        CREATE INDEX message_idx_date ON message (date);
        CREATE INDEX message_idx_is_read ON message (is_read, is_from_me, item_type);
        CREATE INDEX message_idx_handle ON message (handle_id, date);
        CREATE INDEX chat_message_join_idx_message_id_only ON chat_message_join (message_id);
        INSERT INTO _SqliteDatabaseProperties VALUES ('_ClientVersion', '17001'), ('counter_in_all', '0');",
    table: "message",
    insert: |row| insert_message(row, false).map(drop),
    touch: "UPDATE message SET is_read = 1, date_read = (?2 - 978307200) * 1000000000 WHERE ROWID = ?1",
    delete: &["DELETE FROM chat_message_join WHERE message_id = ?1", "DELETE FROM message WHERE ROWID = ?1"],
};

fn insert_message(row: &mut Row, has_attachment: bool) -> Result<i64> {
    let (index, person) = Person::close(row.key, row.rng);
    let handle = index as i64 + 1;
    run(row.db, "INSERT OR IGNORE INTO handle VALUES (?1, ?2, 'de', 'iMessage', ?2)", params![handle, person.phone])?;
    let account = "P:+491700000000";
    run(
        row.db,
        "INSERT OR IGNORE INTO chat VALUES (?1, 'iMessage;-;' || ?2, 45, 3, ?3, ?2, 'iMessage', '')",
        params![handle, person.phone, account],
    )?;
    run(row.db, "INSERT OR IGNORE INTO chat_handle_join VALUES (?1, ?1)", [handle])?;
    let length: f64 = row.rng.random();
    let text = text::sentence(row.rng, 2 + (length * length * 38.0) as usize);
    let from_me = row.rng.random_bool(0.45);
    let read = from_me || row.rng.random_bool(0.97);
    let date = row.cocoa() * 1_000_000_000 + row.rng.random_range(0..1_000_000_000);
    let message = run(
        row.db,
        "INSERT INTO message (guid, text, handle_id, attributedBody, service, account, date, date_read, date_delivered,
            is_delivered, is_from_me, is_read, is_sent, cache_has_attachments)
         VALUES (?1, ?2, ?3, ?4, 'iMessage', ?5, ?6, ?7, ?8, 1, ?9, ?10, ?9, ?11)",
        params![
            text::uuid(row.rng),
            text,
            handle,
            attributed_body(&text),
            account,
            date,
            if read { date + row.rng.random_range(2_000_000_000..900_000_000_000) } else { 0 },
            if from_me { date + 900_000_000 } else { 0 },
            from_me,
            read,
            has_attachment,
        ],
    )?;
    run(row.db, "INSERT INTO chat_message_join VALUES (?1, ?2, ?3)", [handle, message, date])?;
    Ok(message)
}

/// An `NSAttributedString` as a typedstream, with the one attribute that every message part has.
fn attributed_body(text: &str) -> Vec<u8> {
    let mut body = b"\x04\x0bstreamtyped\x81\xe8\x03\x84\x01\x40\x84\x84\x84\x12NSAttributedString\0\
        \x84\x84\x08NSObject\0\x85\x92\x84\x84\x84\x08NSString\x01\x94\x84\x01+"
        .to_vec();
    push_length(&mut body, text.len());
    body.extend(text.as_bytes());
    body.extend(b"\x86\x84\x02iI\x01");
    push_length(&mut body, text.encode_utf16().count());
    body.extend(
        b"\x92\x84\x84\x84\x0cNSDictionary\0\x94\x84\x01i\x01\x92\x84\x96\x96\x1d__kIMMessagePartAttributeName\x86\
        \x92\x84\x84\x84\x08NSNumber\0\x84\x84\x07NSValue\0\x94\x84\x01*\x84\x99\x99\0\x86\x86\x86",
    );
    body
}

/// A typedstream integer: one byte below 0x80, otherwise 0x81 and two bytes.
fn push_length(body: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(length) if length < 0x80 => body.push(length),
        _ => {
            body.push(0x81);
            body.extend((length as u16).to_le_bytes());
        }
    }
}

/// Adds a message with the file at `path`, relative to `/var/mobile`, to sms.db.
pub(crate) fn add_attachment(
    db: &Connection,
    rng: &mut ChaCha8Rng,
    key: u64,
    at: i64,
    path: &str,
    size: u64,
) -> Result<()> {
    let message = insert_message(&mut Row { db, rng, at, key }, true)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let guid = format!("at_0_{}", text::uuid(rng));
    let mut insert = db.prepare_cached(
        "INSERT INTO attachment (guid, created_date, filename, uti, mime_type, transfer_state, transfer_name, total_bytes)
         VALUES (?1, ?2, '~/' || ?3, 'public.jpeg', 'image/jpeg', 5, ?4, ?5)",
    )?;
    insert.execute(params![guid, cocoa(at), path, name, size as i64])?;
    let attachment = db.last_insert_rowid();
    db.prepare_cached("INSERT INTO message_attachment_join VALUES (?1, ?2)")?.execute([message, attachment])?;
    Ok(())
}

/// The photo library's catalogue. Rows of `ZASSET` come with the photos; what grows by itself is what is seen in them.
pub(crate) const PHOTOS: Database = Database {
    domain: "CameraRollDomain",
    path: "Media/PhotoData/Photos.sqlite",
    share: 0.15,
    leaves_wal: false,
    schema: "
        CREATE TABLE Z_PRIMARYKEY (Z_ENT INTEGER PRIMARY KEY, Z_NAME VARCHAR, Z_SUPER INTEGER, Z_MAX INTEGER);
        CREATE TABLE Z_METADATA (Z_VERSION INTEGER PRIMARY KEY, Z_UUID VARCHAR(255), Z_PLIST BLOB);
        CREATE TABLE ZASSET (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZDIRECTORY VARCHAR, ZFILENAME VARCHAR,
            ZUUID VARCHAR, ZUNIFORMTYPEIDENTIFIER VARCHAR, ZKIND INTEGER, ZKINDSUBTYPE INTEGER, ZPLAYBACKSTYLE INTEGER,
            ZWIDTH INTEGER, ZHEIGHT INTEGER, ZFAVORITE INTEGER, ZHIDDEN INTEGER, ZTRASHEDSTATE INTEGER,
            ZDATECREATED TIMESTAMP, ZADDEDDATE TIMESTAMP, ZMODIFICATIONDATE TIMESTAMP, ZLATITUDE FLOAT, ZLONGITUDE FLOAT);
        CREATE TABLE ZADDITIONALASSETATTRIBUTES (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZASSET INTEGER,
            ZORIGINALFILENAME VARCHAR, ZORIGINALFILESIZE INTEGER, ZTIMEZONEOFFSET INTEGER, ZTIMEZONENAME VARCHAR);
        CREATE TABLE ZSCENECLASSIFICATION (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZSCENEIDENTIFIER INTEGER,
            ZASSETATTRIBUTES INTEGER, ZCONFIDENCE FLOAT, ZSTARTTIME FLOAT, ZDURATION FLOAT, ZTHUMBNAILDATA BLOB);
        CREATE INDEX Z_Asset_byDateCreated ON ZASSET (ZDATECREATED);
        CREATE INDEX Z_Asset_byFilename ON ZASSET (ZFILENAME);
        CREATE INDEX ZSCENECLASSIFICATION_ZASSETATTRIBUTES_INDEX ON ZSCENECLASSIFICATION (ZASSETATTRIBUTES);
        CREATE INDEX Z_SceneClassification_bySceneIdentifier ON ZSCENECLASSIFICATION (ZSCENEIDENTIFIER);
        INSERT INTO Z_PRIMARYKEY VALUES (3, 'Asset', 0, 0), (1, 'AdditionalAssetAttributes', 0, 0),
            (68, 'SceneClassification', 0, 0);",
    table: "ZSCENECLASSIFICATION",
    insert: |row| {
        let asset: i64 = row.rng.random_range(1..5_000);
        let scene: i64 = row.rng.random_range(1..1_400);
        let confidence: f64 = row.rng.random();
        let data = row.rng.random_bool(0.1).then(|| text::bytes(row.rng, 400));
        run(row.db,
            "INSERT INTO ZSCENECLASSIFICATION VALUES (NULL, 68, 1, ?1, ?2, ?3, 0, 0, ?4)",
            params![scene, asset, confidence, data],
        )
        .map(drop)
    },
    touch: "UPDATE ZSCENECLASSIFICATION SET Z_OPT = Z_OPT + 1, ZSTARTTIME = ?2 WHERE Z_PK = ?1",
    delete: &["DELETE FROM ZSCENECLASSIFICATION WHERE Z_PK = ?1"],
};

/// A photo or film as Photos.sqlite knows it.
pub(crate) struct Asset {
    pub directory: String,
    pub file_name: String,
    pub is_film: bool,
    pub is_live: bool,
    pub size: u64,
    pub at: i64,
}

pub(crate) fn add_asset(db: &Connection, rng: &mut ChaCha8Rng, asset: &Asset) -> Result<()> {
    let style = if asset.is_film { 4 } else { 1 + 2 * i64::from(asset.is_live) };
    let (width, height) = if asset.is_film { (1920, 1080) } else { (4032, 3024) };
    let uti = match asset.file_name.rsplit('.').next() {
        Some("HEIC") => "public.heic",
        Some("MOV") => "com.apple.quicktime-movie",
        _ => "public.jpeg",
    };
    db.prepare_cached(
        "INSERT INTO ZASSET VALUES (NULL, 3, 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, 0, ?10, ?10, ?10, ?11, ?12)",
    )?
    .execute(params![
        asset.directory,
        asset.file_name,
        text::uuid(rng),
        uti,
        asset.is_film,
        if asset.is_live { 2 } else { 0 },
        style,
        width,
        height,
        cocoa(asset.at),
        rng.random_range(47.0..54.0),
        rng.random_range(6.0..15.0),
    ])?;
    let row = db.last_insert_rowid();
    db.prepare_cached("INSERT INTO ZADDITIONALASSETATTRIBUTES VALUES (NULL, 1, 1, ?1, ?2, ?3, 7200, 'Europe/Berlin')")?
        .execute(params![row, asset.file_name, asset.size as i64])?;
    Ok(())
}

pub(crate) fn remove_asset(db: &Connection, file_name: &str) -> Result<()> {
    db.execute("DELETE FROM ZADDITIONALASSETATTRIBUTES WHERE ZORIGINALFILENAME = ?1", [file_name])?;
    db.execute("DELETE FROM ZASSET WHERE ZFILENAME = ?1", [file_name])?;
    Ok(())
}

const CHATS: Database = Database {
    domain: "AppDomainGroup-group.net.whatsapp.WhatsApp.shared",
    path: "ChatStorage.sqlite",
    share: 0.2,
    leaves_wal: false,
    schema: "
        CREATE TABLE ZWACHATSESSION (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZCONTACTJID VARCHAR,
            ZPARTNERNAME VARCHAR, ZSESSIONTYPE INTEGER, ZUNREADCOUNT INTEGER, ZLASTMESSAGEDATE TIMESTAMP);
        CREATE TABLE ZWAMESSAGE (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZCHATSESSION INTEGER,
            ZISFROMME INTEGER, ZMESSAGESTATUS INTEGER, ZMESSAGETYPE INTEGER, ZMESSAGEDATE TIMESTAMP, ZSENTDATE TIMESTAMP,
            ZFROMJID VARCHAR, ZTOJID VARCHAR, ZSTANZAID VARCHAR, ZTEXT VARCHAR);
        CREATE TABLE ZWAMEDIAITEM (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZMESSAGE INTEGER,
            ZFILESIZE INTEGER, ZMEDIALOCALPATH VARCHAR, ZVCARDSTRING VARCHAR);
        CREATE INDEX ZWAMESSAGE_ZCHATSESSION_INDEX ON ZWAMESSAGE (ZCHATSESSION, ZMESSAGEDATE);
        CREATE INDEX ZWAMESSAGE_ZSTANZAID_INDEX ON ZWAMESSAGE (ZSTANZAID);",
    table: "ZWAMESSAGE",
    insert: |row| {
        let (index, person) = Person::close(row.key, row.rng);
        let (jid, at) = (format!("{}@s.whatsapp.net", &person.phone[1..]), row.cocoa());
        run(row.db,
            "INSERT INTO ZWACHATSESSION VALUES (?1, 4, 1, ?2, ?3, 0, 0, ?4)
             ON CONFLICT DO UPDATE SET ZLASTMESSAGEDATE = ?4, Z_OPT = Z_OPT + 1",
            params![index as i64 + 1, jid, format!("{} {}", person.first, person.last), at],
        )?;
        let from_me = row.rng.random_bool(0.5);
        let count = row.rng.random_range(1..30);
        let text = text::sentence(row.rng, count);
        let stanza = format!("3A{:016X}", row.rng.random::<u64>());
        run(row.db,
            "INSERT INTO ZWAMESSAGE VALUES (NULL, 9, 2, ?1, ?2, 8, 0, ?3, ?3, ?4, ?5, ?6, ?7)",
            params![index as i64 + 1, from_me, at, (!from_me).then_some(&jid), from_me.then_some(&jid), stanza, text],
        )
        .map(drop)
    },
    touch: "UPDATE ZWAMESSAGE SET ZMESSAGESTATUS = 13, ZSENTDATE = ?2 - 978307200 WHERE Z_PK = ?1",
    delete: &["DELETE FROM ZWAMESSAGE WHERE Z_PK = ?1"],
};

const HEALTH: Database = Database {
    domain: "HealthDomain",
    path: "Health/healthdb_secure.sqlite",
    share: 0.1,
    leaves_wal: true,
    schema: "
        CREATE TABLE objects (data_id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB UNIQUE, provenance INTEGER, type INTEGER,
            creation_date REAL);
        CREATE TABLE samples (data_id INTEGER PRIMARY KEY, start_date REAL, end_date REAL, data_type INTEGER);
        CREATE TABLE quantity_samples (data_id INTEGER PRIMARY KEY, quantity REAL, original_quantity REAL, original_unit INTEGER);
        CREATE INDEX samples_type_start ON samples (data_type, start_date);",
    table: "samples",
    insert: |row| {
        let (at, uuid) = (row.cocoa(), text::bytes(row.rng, 16));
        let id = run(row.db, "INSERT INTO objects VALUES (NULL, ?1, ?2, 1, ?3)", params![uuid, 1 + at % 3, at + 5])?;
        let (kind, length) = ([5, 7, 8, 9, 10, 12][row.rng.random_range(0..6)], row.rng.random_range(1..600));
        run(row.db, "INSERT INTO samples VALUES (?1, ?2, ?3, ?4)", params![id, at - length, at, kind])?;
        let quantity = f64::from(row.rng.random_range(0..50_000)) / 100.0;
        run(row.db, "INSERT INTO quantity_samples VALUES (?1, ?2, NULL, NULL)", params![id, quantity]).map(drop)
    },
    touch: "UPDATE samples SET end_date = ?2 - 978307200 WHERE data_id = ?1",
    delete: &[
        "DELETE FROM quantity_samples WHERE data_id = ?1",
        "DELETE FROM samples WHERE data_id = ?1",
        "DELETE FROM objects WHERE data_id = ?1",
    ],
};

const CALLS: Database = Database {
    domain: "HomeDomain",
    path: "Library/CallHistoryDB/CallHistory.storedata",
    share: 0.01,
    leaves_wal: true,
    schema: "
        CREATE TABLE ZCALLRECORD (Z_PK INTEGER PRIMARY KEY, Z_ENT INTEGER, Z_OPT INTEGER, ZANSWERED INTEGER, ZCALLTYPE INTEGER,
            ZORIGINATED INTEGER, ZREAD INTEGER, ZDATE TIMESTAMP, ZDURATION FLOAT, ZADDRESS VARCHAR, ZISO_COUNTRY_CODE VARCHAR,
            ZSERVICE_PROVIDER VARCHAR, ZUNIQUE_ID VARCHAR);
        CREATE INDEX Z_CallRecord_byDate ON ZCALLRECORD (ZDATE);",
    table: "ZCALLRECORD",
    insert: |row| {
        let (_, person) = Person::close(row.key, row.rng);
        let (answered, originated) = (row.rng.random_bool(0.8), row.rng.random_bool(0.5));
        let duration = if answered { row.rng.random_range(4.0..2400.0) } else { 0.0 };
        let (kind, id) = ([1, 1, 8, 16][row.rng.random_range(0..4)], text::uuid(row.rng));
        let provider = if kind == 1 { "com.apple.Telephony" } else { "com.apple.FaceTime" };
        run(row.db,
            "INSERT INTO ZCALLRECORD VALUES (NULL, 2, 1, ?1, ?2, ?3, ?1, ?4, ?5, ?6, 'de', ?7, ?8)",
            params![answered, kind, originated, row.cocoa(), duration, person.phone, provider, id],
        )
        .map(drop)
    },
    touch: "UPDATE ZCALLRECORD SET ZREAD = 1, Z_OPT = Z_OPT + (?2 > 0) WHERE Z_PK = ?1",
    delete: &["DELETE FROM ZCALLRECORD WHERE Z_PK = ?1"],
};

const CONTACTS: Database = Database {
    domain: "HomeDomain",
    path: "Library/AddressBook/AddressBook.sqlitedb",
    share: 0.005,
    leaves_wal: false,
    schema: "
        CREATE TABLE ABPerson (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, First TEXT, Last TEXT, Middle TEXT, Organization TEXT,
            Note TEXT, Kind INTEGER, Birthday TEXT, CreationDate INTEGER, ModificationDate INTEGER, guid TEXT);
        CREATE TABLE ABMultiValue (UID INTEGER PRIMARY KEY, record_id INTEGER, property INTEGER, identifier INTEGER,
            label INTEGER, value TEXT, guid TEXT);
        CREATE TABLE ABMultiValueLabel (value TEXT, UNIQUE (value));
        CREATE INDEX ABFirstSortKeyIndex ON ABPerson (First, Last);
        CREATE INDEX ABMultiValueIndex ON ABMultiValue (record_id, property);
        INSERT INTO ABMultiValueLabel VALUES ('_$!<Mobile>!$_'), ('_$!<Home>!$_'), ('_$!<Work>!$_');",
    table: "ABPerson",
    insert: |row| {
        let people: i64 = row.db.query_row("SELECT count(*) FROM ABPerson", [], |row| row.get(0))?;
        let (person, at) = (Person::nth(row.key, people as u64), row.cocoa());
        let note = row.rng.random_bool(0.2).then(|| text::sentence(row.rng, 9));
        let id = run(row.db,
            "INSERT INTO ABPerson VALUES (NULL, ?1, ?2, NULL, NULL, ?3, 0, NULL, ?4, ?4, ?5)",
            params![person.first, person.last, note, at, text::uuid(row.rng)],
        )?;
        for (property, label, value) in [(3, 1, &person.phone), (4, 2, &person.email)] {
            run(row.db,
                "INSERT INTO ABMultiValue VALUES (NULL, ?1, ?2, 0, ?3, ?4, ?5)",
                params![id, property, label, value, text::uuid(row.rng)],
            )?;
        }
        Ok(())
    },
    touch: "UPDATE ABPerson SET Note = 'met ' || ?2, ModificationDate = ?2 - 978307200 WHERE ROWID = ?1",
    delete: &["DELETE FROM ABMultiValue WHERE record_id = ?1", "DELETE FROM ABPerson WHERE ROWID = ?1"],
};

const CALENDAR: Database = Database {
    domain: "HomeDomain",
    path: "Library/Calendar/Calendar.sqlitedb",
    share: 0.015,
    leaves_wal: false,
    schema: "
        CREATE TABLE Calendar (ROWID INTEGER PRIMARY KEY, title TEXT, color TEXT, store_id INTEGER);
        CREATE TABLE CalendarItem (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, summary TEXT, description TEXT, start_date REAL,
            start_tz TEXT, end_date REAL, all_day INTEGER, calendar_id INTEGER, UUID TEXT, last_modified REAL);
        CREATE INDEX CalendarItemStartDate ON CalendarItem (calendar_id, start_date);
        INSERT INTO Calendar VALUES (1, 'Home', '#1BADF8', 1), (2, 'Work', '#63DA38', 1), (3, 'Family', '#CC73E1', 2);",
    table: "CalendarItem",
    insert: |row| {
        let (start, minutes) = (row.cocoa() + row.rng.random_range(0..40) * 43_200, row.rng.random_range(1..12) * 15);
        let (summary, notes) = (text::sentence(row.rng, 4), row.rng.random_bool(0.3).then(|| text::sentence(row.rng, 25)));
        run(row.db,
            "INSERT INTO CalendarItem VALUES (NULL, ?1, ?2, ?3, 'Europe/Berlin', ?4, 0, ?5, ?6, ?7)",
            params![
                summary,
                notes,
                start,
                start + minutes * 60,
                row.rng.random_range(1..=3),
                text::uuid(row.rng),
                row.cocoa()
            ],
        )
        .map(drop)
    },
    touch: "UPDATE CalendarItem SET last_modified = ?2 - 978307200 WHERE ROWID = ?1",
    delete: &["DELETE FROM CalendarItem WHERE ROWID = ?1"],
};

const BROWSING: Database = Database {
    domain: "AppDomain-com.apple.mobilesafari",
    path: "Library/Safari/History.db",
    share: 0.02,
    leaves_wal: true,
    schema: "
        CREATE TABLE history_items (id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL UNIQUE, domain_expansion TEXT,
            visit_count INTEGER NOT NULL);
        CREATE TABLE history_visits (id INTEGER PRIMARY KEY AUTOINCREMENT, history_item INTEGER NOT NULL, visit_time REAL NOT NULL,
            title TEXT, load_successful BOOLEAN NOT NULL DEFAULT 1);
        CREATE INDEX history_visits__item ON history_visits (history_item, visit_time);",
    table: "history_visits",
    insert: |row| {
        let site = format!("{}-{}.example", text::word(row.rng), text::word(row.rng));
        let page = row.rng.random_range(0..20);
        let url = format!("https://{site}/{}/{page}", text::word(row.rng));
        run(row.db,
            "INSERT INTO history_items VALUES (NULL, ?1, ?2, 1) ON CONFLICT (url) DO UPDATE SET visit_count = visit_count + 1",
            params![url, site],
        )?;
        let item: i64 =
            row.db.prepare_cached("SELECT id FROM history_items WHERE url = ?1")?.query_row([&url], |row| row.get(0))?;
        let title = text::sentence(row.rng, 5);
        run(row.db, "INSERT INTO history_visits VALUES (NULL, ?1, ?2, ?3, 1)", params![item, row.cocoa(), title]).map(drop)
    },
    touch: "UPDATE history_visits SET load_successful = 1, title = title || (?2 % 10) WHERE id = ?1",
    delete: &["DELETE FROM history_visits WHERE id = ?1"],
};

/// Voicemail. Its rows come with the recordings, `<ROWID>.amr`. Times are Unix seconds.
pub(crate) const VOICEMAIL: Database = Database {
    domain: "HomeDomain",
    path: "Library/Voicemail/voicemail.db",
    share: 0.0,
    leaves_wal: false,
    schema: "
        CREATE TABLE voicemail (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, remote_uid INTEGER, date INTEGER, token TEXT,
            sender TEXT, callback_num TEXT, duration INTEGER, expiration INTEGER, trashed_date INTEGER, flags INTEGER,
            receiver TEXT, uuid TEXT);
        CREATE INDEX date_index ON voicemail (date);",
    table: "voicemail",
    insert: |_| Ok(()),
    touch: "UPDATE voicemail SET flags = flags | 1, expiration = ?2 + 2592000 WHERE ROWID = ?1",
    delete: &[],
};

/// Adds a voicemail of `seconds` and returns its row.
pub(crate) fn add_voicemail(db: &Connection, rng: &mut ChaCha8Rng, key: u64, at: i64, seconds: u64) -> Result<i64> {
    let (_, person) = Person::close(key, rng);
    db.execute(
        "INSERT INTO voicemail VALUES (NULL, ?1, ?2, 'Complete', ?3, ?3, ?4, 0, 0, 2, NULL, ?5)",
        params![rng.random_range(1..100_000), at, person.phone, seconds as i64, text::uuid(rng)],
    )?;
    Ok(db.last_insert_rowid())
}

/// Every database of a phone.
pub(crate) const ALL: [&Database; 9] =
    [&MESSAGES, &PHOTOS, &CHATS, &HEALTH, &CALLS, &CONTACTS, &CALENDAR, &BROWSING, &VOICEMAIL];

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_pages(old: &[u8], new: &[u8]) -> usize {
        old.chunks(4096).zip(new.chunks(4096)).filter(|(old, new)| old != new).count()
    }

    #[test]
    fn does_a_day_change_few_pages_of_messages() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(MESSAGES.file_name());
        MESSAGES.create(directory.path(), 8 << 20, 1_700_000_000, 1).unwrap();
        let old = fs::read(&file).unwrap();
        MESSAGES.live_one_day(directory.path(), 1_700_086_400, 1).unwrap();
        let changed = changed_pages(&old, &fs::read(&file).unwrap());
        assert!((5..200).contains(&changed), "{changed} of {} pages changed", old.len() / 4096);
    }

    #[test]
    fn does_sqlite_read_a_settled_log() {
        let [directory, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        CALLS.create(directory.path(), 40_000, 1_700_000_000, 1).unwrap();
        let (file, copy) = (directory.path().join(CALLS.file_name()), copy.path().join("copy"));
        fs::copy(&file, &copy).unwrap();
        let count = || {
            let db = Connection::open(&copy).unwrap();
            db.query_row("SELECT count(*) FROM ZCALLRECORD", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let without_log = count();
        fs::copy(beside(&file, "-wal"), beside(&copy, "-wal")).unwrap();
        assert_eq!(&fs::read(beside(&copy, "-wal")).unwrap()[16..24], b"heirloom");
        assert_eq!(count(), without_log + 5);
    }
}
