//! Where a process runs, as far as a later one can recognise it: whether a session proves that its process is gone (SPEC §11).
//!
//! Names prove little: two computers may have one name, a container has its own processes under the name of its host, and a copied disk takes the
//! machine's id with it. So a process is presumed gone only by one that runs on the same hardware, sees the same processes, and knows it.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::id::encode_hex;

/// Makers whose network interfaces are programs: a copy of a virtual machine has the address, too.
const VIRTUAL_MAKERS: [&str; 8] =
    ["00:05:69", "00:0c:29", "00:15:5d", "00:16:3e", "00:1c:14", "00:1c:42", "00:50:56", "08:00:27"];

/// A process, by what a session says of it. A text is empty where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    /// The name of the machine.
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// An id of the run of the system.
    boot: String,
    /// A hash of the machine's id and of its hardware; empty where no hardware is known.
    machine: String,
    /// The namespace that `pid` is of.
    pid_ns: String,
}

impl Process {
    /// This process. Linux tells in files where it runs; elsewhere nothing is known, and no session is presumed dead.
    pub(crate) fn this() -> Process {
        Process::on(Path::new("/"), std::process::id())
    }

    /// Process `pid` on the system whose files lie below `root`.
    fn on(root: &Path, pid: u32) -> Process {
        let text = |file: &str| fs::read_to_string(root.join(file)).map_or_else(|_| String::new(), trimmed);
        let namespace =
            fs::read_link(root.join("proc/self/ns/pid")).ok().and_then(|link| link.into_os_string().into_string().ok());
        Process {
            host: text("proc/sys/kernel/hostname"),
            pid,
            boot: text("proc/sys/kernel/random/boot_id"),
            machine: machine(root, &text("etc/machine-id")),
            pid_ns: namespace.unwrap_or_default(),
        }
    }

    /// The run of the system, if it is known.
    pub(crate) fn boot(&self) -> Option<&str> {
        Some(self.boot.as_str()).filter(|boot| !boot.is_empty())
    }

    /// Whether this process may run on another machine than `here`.
    pub(crate) fn may_be_elsewhere(&self, here: &Process) -> bool {
        self.boot.is_empty() || self.boot != here.boot
    }

    /// Whether this process is surely gone, seen from `here`, where `is_running` says which processes there are.
    pub(crate) fn is_gone(&self, here: &Process, is_running: impl FnOnce(u32) -> bool) -> bool {
        let known_and_same = |of: fn(&Process) -> &String| !of(self).is_empty() && of(self) == of(here);
        let is_of_this_system = known_and_same(|process| &process.host)
            && known_and_same(|process| &process.pid_ns)
            && !self.boot.is_empty()
            && !here.boot.is_empty()
            && self.machine == here.machine;
        // One run of a system is on one machine, whatever is known of its hardware; of two only the hardware tells.
        is_of_this_system
            && if self.boot == here.boot { !is_running(self.pid) } else { known_and_same(|process| &process.machine) }
    }
}

/// Whether there is such a process, whoever owns it, and even where others' processes are not listed.
#[cfg(target_os = "linux")]
pub(crate) fn is_running(pid: u32) -> bool {
    use rustix::{io::Errno, process};
    let Ok(number) = i32::try_from(pid) else { return false };
    process::Pid::from_raw(number).is_none_or(|pid| process::test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_running(_pid: u32) -> bool {
    true
}

/// A hash of the machine's id and the addresses of its network interfaces; empty if none of these is of hardware.
fn machine(root: &Path, machine_id: &str) -> String {
    let interfaces = fs::read_dir(root.join("sys/class/net")).into_iter().flatten().flatten();
    let mut addresses: Vec<String> = interfaces.filter_map(|interface| hardware_address(&interface.path())).collect();
    if addresses.is_empty() {
        return String::new();
    }
    addresses.sort();
    addresses.dedup();
    let hash = blake3::hash(format!("{machine_id}\n{}", addresses.join("\n")).as_bytes());
    encode_hex(&hash.as_bytes()[..16])
}

/// The address that the maker of a network interface gave it.
fn hardware_address(interface: &Path) -> Option<String> {
    let text = |file: &str| fs::read_to_string(interface.join(file)).ok().map(trimmed);
    let address = text("address")?;
    let first = u8::from_str_radix(address.get(..2)?, 16).ok()?;
    let is_of_the_maker = first & 0b11 == 0 && address.bytes().any(|byte| !matches!(byte, b'0' | b':'));
    let is_virtual = VIRTUAL_MAKERS.iter().any(|maker| address.starts_with(maker));
    let is_hardware = interface.join("device").exists() && text("addr_assign_type")? == "0";
    (is_hardware && is_of_the_maker && !is_virtual).then_some(address)
}

fn trimmed(text: String) -> String {
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        let text = |text: &str| text.to_owned();
        Process { host: text("pi"), pid: 7, boot: text("first"), machine: text("m1"), pid_ns: text("pid:[1]") }
    }

    fn is_gone(session: &Process, here: &Process) -> bool {
        session.is_gone(here, |pid| pid != 7)
    }

    #[test]
    fn gone_process_of_this_boot_is_gone() {
        assert!(is_gone(&process(), &process()));
        assert!(!process().is_gone(&process(), |_| true), "it runs");
        let unknown = Process { machine: String::new(), ..process() };
        assert!(is_gone(&unknown, &unknown), "one boot is one machine");
    }

    #[test]
    fn process_of_an_earlier_boot_is_gone_with_its_hardware() {
        let later = Process { boot: "second".to_owned(), ..process() };
        assert!(process().is_gone(&later, |_| true), "whatever has its number now");
        let unknown = |of: Process| Process { machine: String::new(), ..of };
        assert!(!is_gone(&unknown(process()), &unknown(later)), "perhaps another machine of this name");
    }

    #[test]
    fn process_of_another_place_is_never_gone() {
        let others: [fn(&mut Process); 8] = [
            |of| of.host = "other".to_owned(),
            |of| of.host.clear(),
            |of| of.machine = "m2".to_owned(),
            |of| of.machine.clear(),
            |of| of.pid_ns = "pid:[2]".to_owned(),
            |of| of.pid_ns.clear(),
            |of| (of.boot, of.machine) = ("second".to_owned(), "m2".to_owned()),
            |of| of.boot.clear(),
        ];
        for (number, change) in others.iter().enumerate() {
            let mut other = process();
            change(&mut other);
            assert!(!is_gone(&other, &process()) && !is_gone(&process(), &other), "number {number}");
            assert!(!is_gone(&other, &Process::default()), "number {number}, seen from where nothing is known");
        }
        assert!(!is_gone(&Process::default(), &Process::default()));
    }

    /// A system with one network interface at `address`.
    fn system(address: &str, assigned: &str, is_device: bool) -> Process {
        let root = tempfile::tempdir().unwrap();
        let interface = root.path().join("sys/class/net/eth0");
        fs::create_dir_all(&interface).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), "3d12\n").unwrap();
        fs::write(interface.join("address"), format!("{address}\n")).unwrap();
        fs::write(interface.join("addr_assign_type"), format!("{assigned}\n")).unwrap();
        if is_device {
            fs::create_dir(interface.join("device")).unwrap();
        }
        Process::on(root.path(), 1)
    }

    #[test]
    fn cloned_disk_in_other_hardware_is_another_machine() {
        let [one, same, clone] = ["dc:a6:32:01:02:03", "dc:a6:32:01:02:03", "dc:a6:32:01:02:04"]
            .map(|address| system(address, "0", true).machine);
        assert!(one == same && one != clone && one.len() == 32, "{one} {same} {clone}");
    }

    #[test]
    fn addresses_that_programs_choose_are_no_hardware() {
        let chosen = [
            ("02:fc:00:00:00:01", "0", true),
            ("08:00:27:01:02:03", "0", true),
            ("dc:a6:32:01:02:03", "3", true),
            ("dc:a6:32:01:02:03", "0", false),
            ("00:00:00:00:00:00", "0", true),
            ("", "0", true),
        ];
        for (address, assigned, is_device) in chosen {
            assert_eq!(system(address, assigned, is_device).machine, "", "{address} {assigned} {is_device}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known_and_runs() {
        let this = Process::this();
        assert!(!this.host.is_empty() && !this.boot.is_empty() && !this.pid_ns.is_empty(), "{this:?}");
        assert!(is_running(this.pid) && is_running(1) && !is_running(u32::MAX) && !is_running(i32::MAX as u32));
    }
}
