//! A network of the test's own: each process stands in a network namespace with its own address, all of them on one
//! bridge, and what goes wrong between them is said to the kernel: cables are pulled, packets are dropped one way or both. The
//! bridge has a namespace, too, so that the machine's own firewall has no say in what passes; the test hangs on it by a cable.
//!
//! It takes root. Where that is missing, the test says so and is counted as skipped.
//!
//! Everything has a name made from the number of a slot, and a slot belongs to the process that holds the lock on its
//! file. The kernel gives the lock back however that process ends, so whoever starts next finds what a killed test left behind by
//! the locks that nobody holds, and removes it: processes, namespaces, bridge, mounts, files.
//!
//! The addresses are those set apart for measuring networks (RFC 2544: 198.18.0.0/15), which no machine uses for anything
//! else. Rejected: processes on loopback with a proxy between each pair. It cannot lose a single packet, half-close a connection, or
//! let a connection hang without an answer, which are the faults that matter.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How many tests may have a network at the same time on one machine.
const SLOTS: u16 = 16;

/// A place for one network.
struct Slot {
    number: u16,
    /// Held while this process lives.
    _lock: File,
}

fn home() -> PathBuf {
    std::env::temp_dir().join("dstore-chaos")
}

impl Slot {
    /// Takes a slot if nobody has it.
    fn take(number: u16) -> Option<Slot> {
        std::fs::create_dir_all(home()).ok()?;
        let path = home().join(format!("{number}.lock"));
        let lock = File::options().create(true).truncate(false).write(true).open(path).ok()?;
        lock.try_lock().ok()?;
        Some(Slot { number, _lock: lock })
    }

    fn folder(&self) -> PathBuf {
        home().join(self.number.to_string())
    }

    /// What its names begin with, and the end of the test's own cable.
    fn name(&self) -> String {
        format!("dsc{}", self.number)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name())
    }

    fn namespaces(&self) -> Vec<String> {
        let prefix = format!("dsc{}-", self.number);
        let listed = run("ip", &["netns", "list"]).unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect()
    }

    /// Removes whatever is there under the slot's names: only its owner does, or who found it without one.
    fn clear(&self) {
        for namespace in self.namespaces() {
            let pids = run("ip", &["netns", "pids", &namespace]).unwrap_or_default();
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            let _ = run("ip", &["netns", "delete", &namespace]);
        }
        let _ = run("ip", &["link", "delete", &self.name()]);
        let folder = self.folder();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in places.filter(|place| Path::new(place).starts_with(&folder)) {
            let _ = run("umount", &["-l", place]);
        }
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// Runs a command; what it printed, or what it complained about.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let said = |output: Output| match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    };
    Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}")).and_then(said)
}

fn must(program: &str, arguments: &[&str]) -> String {
    run(program, arguments).unwrap_or_else(|problem| panic!("{problem}"))
}

/// A machine of the network: a namespace with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name within the cluster.
    pub name: String,
    /// Its address.
    pub address: String,
    namespace: String,
    switch: String,
    /// The end of its cable at the bridge.
    cable: String,
}

impl Host {
    /// A command that runs there.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    fn iptables(&self, arguments: &[&str]) {
        must("ip", &[&["netns", "exec", &self.namespace, "iptables", "-w"][..], arguments].concat());
    }

    /// Drops what comes from these.
    pub fn do_not_hear(&self, others: &[Host]) {
        for other in others {
            self.iptables(&["-A", "INPUT", "-s", &other.address, "-j", "DROP"]);
        }
    }

    /// Drops what goes to these.
    pub fn do_not_reach(&self, others: &[Host]) {
        for other in others {
            self.iptables(&["-A", "OUTPUT", "-d", &other.address, "-j", "DROP"]);
        }
    }

    /// Loses packets both ways, each with this probability (a decimal from 0 to 1).
    pub fn lose(&self, probability: &str) {
        for chain in ["INPUT", "OUTPUT"] {
            let random = ["-m", "statistic", "--mode", "random", "--probability", probability];
            self.iptables(&[&["-A", chain][..], &random, &["-j", "DROP"]].concat());
        }
    }

    /// Sends slowly: late where the kernel can delay packets, else through a narrow pipe that fills.
    pub fn slow_down(&self) {
        let on = ["-n", &self.namespace, "qdisc", "replace", "dev", "eth0", "root"];
        let late = ["netem", "delay", "80ms", "40ms"];
        let narrow = ["tbf", "rate", "400kbit", "burst", "16kb", "latency", "400ms"];
        if run("tc", &[&on[..], &late].concat()).is_err() {
            must("tc", &[&on[..], &narrow].concat());
        }
    }

    /// Pulls the cable.
    pub fn unplug(&self) {
        must("ip", &["-n", &self.switch, "link", "set", &self.cable, "down"]);
    }

    /// Everything is as it should be again.
    pub fn heal(&self) {
        self.iptables(&["-F"]);
        let _ = run("tc", &["-n", &self.namespace, "qdisc", "delete", "dev", "eth0", "root"]);
        must("ip", &["-n", &self.switch, "link", "set", &self.cable, "up"]);
    }
}

/// A network. Gone when dropped, with every process in it.
pub struct Network {
    slot: Slot,
    hosts: u8,
}

impl Network {
    /// Makes one; none where that cannot be done here, which is said and counted.
    pub fn make() -> Option<Network> {
        let skip = |why: &str| {
            // Past the harness, which would keep what a test prints that passes.
            let _ = std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes());
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skip("networks of the test's own take root");
        }
        for (program, argument) in [("ip", "-V"), ("iptables", "-V"), ("tc", "-V"), ("etcd", "--version")] {
            if run(program, &[argument]).is_err() {
                return skip(&format!("there is no {program} here (scripts/bootstrap.sh test installs it)"));
            }
        }
        let mut own: Option<Slot> = None;
        for number in 0..SLOTS {
            // Held for a moment only, so that others that start now find one, too.
            let Some(slot) = Slot::take(number) else { continue };
            if slot.folder().exists() || !slot.namespaces().is_empty() {
                slot.clear();
            }
            own.get_or_insert(slot);
        }
        let network = Network { slot: own.expect("a slot is free"), hosts: 1 };
        std::fs::create_dir_all(network.slot.folder()).expect("a folder");
        let (own, switch) = (network.slot.name(), network.slot.switch());
        if let Err(why) = run("ip", &["netns", "add", &switch]) {
            return skip(&format!("no networks can be made here: {why}"));
        }
        must("ip", &["-n", &switch, "link", "add", "bridge", "type", "bridge"]);
        must("ip", &["-n", &switch, "link", "set", "bridge", "up"]);
        must("ip", &["link", "add", &own, "type", "veth", "peer", "name", "test", "netns", &switch]);
        must("ip", &["-n", &switch, "link", "set", "test", "master", "bridge", "up"]);
        must("ip", &["address", "add", &format!("{}/24", network.address(1)), "dev", &own]);
        must("ip", &["link", "set", &own, "up"]);
        Some(network)
    }

    fn address(&self, host: u8) -> String {
        format!("198.18.{}.{host}", self.slot.number)
    }

    /// A folder that goes with the network.
    pub fn folder(&self) -> PathBuf {
        self.slot.folder()
    }

    /// A file system in memory of so many MiB, at this place in the folder.
    pub fn mount(&self, name: &str, mebibytes: u32) -> PathBuf {
        let place = self.folder().join(name);
        std::fs::create_dir_all(&place).expect("a folder");
        let path = place.display().to_string();
        must("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tmpfs", &path]);
        place
    }

    /// A machine of this name, on the bridge.
    pub fn host(&mut self, name: &str) -> Host {
        self.hosts += 1;
        let host = Host {
            name: name.to_owned(),
            address: self.address(self.hosts),
            namespace: format!("{}-{name}", self.slot.name()),
            switch: self.slot.switch(),
            cable: format!("to-{name}"),
        };
        let (space, switch) = (&host.namespace, &host.switch);
        must("ip", &["netns", "add", space]);
        let ends = ["type", "veth", "peer", "name", "eth0", "netns", space];
        must("ip", &[&["-n", switch, "link", "add", &host.cable][..], &ends].concat());
        must("ip", &["-n", switch, "link", "set", &host.cable, "master", "bridge", "up"]);
        must("ip", &["-n", space, "link", "set", "lo", "up"]);
        must("ip", &["-n", space, "address", "add", &format!("{}/24", host.address), "dev", "eth0"]);
        must("ip", &["-n", space, "link", "set", "eth0", "up"]);
        host
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.slot.clear();
    }
}
