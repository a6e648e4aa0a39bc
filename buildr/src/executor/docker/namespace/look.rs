//! What a look at a network namespace tells about those who were in it.
//!
//! Addresses within the kernel tell nothing, nor what the kernel counts for all namespaces at once, nor what comes from
//! others: also the answers to their questions who has an address, which are no packets of anybody here. Nor does the
//! order of lines tell anything: some of the kernel's lists are tables that it lays out anew for what happens elsewhere.
//!
//! Whoever made the namespace may still be in it at the first look: Docker 28 and newer keep a packet socket open for
//! some seconds, to tell the neighbours whose the address is now. So each packet socket is known by its inode, which no
//! other ever gets: those of the first look may go, and none may come.

use std::collections::BTreeSet;

/// Where the packets stand that were sent, in the line `Ip:` of `/proc/net/snmp`.
const OUT_REQUESTS: usize = 10;

/// Where the inode stands in a line of `/proc/net/packet`.
const INODE: usize = 8;

/// One look at a namespace.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// `FILE LINE`, sorted.
    lines: Vec<String>,
    /// The packet sockets, each by its inode.
    packets: BTreeSet<String>,
}

impl Look {
    /// Reads what `tail -v` prints of the files in `/proc/net`.
    pub(super) fn of(answer: &str) -> Self {
        let (mut file, mut look, mut used) = ("", Self::default(), None);
        for line in answer.lines() {
            if let Some(next) = line.strip_prefix("==> ").and_then(|line| line.strip_suffix(" <==")) {
                file = next;
                look.lines.push(format!("{file} "));
                continue;
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            let line = match file {
                "packet" => match fields.get(INODE) {
                    Some(&inode) if inode.bytes().all(|byte| byte.is_ascii_digit()) => {
                        look.packets.insert(inode.to_owned());
                        continue;
                    }
                    _ => line.to_owned(),
                },
                "dev" if fields.first() != Some(&"lo:") => fields.first().map_or("", |name| *name).to_owned(),
                "netlink" => fields.get(1..3).unwrap_or_default().join(" "),
                "ipv6_route" if fields.len() > 9 => [fields[0], fields[1], fields[4], fields[9]].join(" "),
                "unix" => fields.get(7..).unwrap_or_default().join(" "),
                "sockstat" | "sockstat6" => match fields[..] {
                    ["sockets:", "used", number] => {
                        used = number.parse::<usize>().ok();
                        continue;
                    }
                    // Those that nobody owns any more are counted for the whole machine; they cannot be but for packets.
                    ["TCP:", "inuse", inuse, _, _, "tw", tw, ..] => format!("TCP: inuse {inuse} tw {tw}"),
                    _ => fields.get(..3).unwrap_or_default().join(" "),
                },
                "snmp" if fields.first() == Some(&"Ip:") => fields.get(OUT_REQUESTS).unwrap_or(&"").to_string(),
                "snmp" if !matches!(fields.first(), Some(&"Tcp:" | &"Udp:" | &"UdpLite:")) => continue,
                "snmp6" if fields.first() != Some(&"Ip6OutRequests") => continue,
                _ => line.to_owned(),
            };
            look.lines.push(format!("{file} {line}"));
        }
        // The packet sockets are among those that the kernel counts.
        if let Some(others) = used.and_then(|used| used.checked_sub(look.packets.len())) {
            look.lines.push(format!("sockstat sockets: used {others}"));
        }
        look.lines.sort_unstable();
        look
    }

    /// Whether it tells anything: what tells nothing proves nothing.
    pub(super) fn tells(&self) -> bool {
        ["sockstat TCP: inuse 0 tw 0", "udp ", "unix ", "packet "].iter().all(|told| self.has(told))
            && self.lines.iter().any(|line| line.starts_with("sockstat sockets: used "))
    }

    /// Whether nobody is in the namespace, and nobody was in it since that look, but who was there at it.
    pub(super) fn is_as(&self, clean: &Self) -> bool {
        self.lines == clean.lines && self.packets.is_subset(&clean.packets)
    }

    /// What there is beyond that look.
    pub(super) fn beyond<'a>(&'a self, clean: &'a Self) -> Vec<&'a str> {
        let lines = self.lines.iter().filter(|line| !clean.has(line));
        lines.chain(self.packets.difference(&clean.packets)).map(String::as_str).collect()
    }

    fn has(&self, line: &str) -> bool {
        self.lines.binary_search_by(|known| known.as_str().cmp(line)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: &str = "==> udp <==\n  sl  local_address\n\
        ==> packet <==\nsk RefCnt Type Proto Iface R Rmem User Inode\n==> unix <==\nNum       RefCount Protocol\n==> netlink <==\nsk Eth Pid\n\
        00000000466f34d8 0 0 00000000 0 0 0 2 0 5106163\n0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n==> dev <==\n face |bytes\n\
        lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\neth0: 646 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n==> sockstat <==\nsockets: used 1\n\
        TCP: inuse 0 orphan 0 tw 0 alloc 11 mem 72\nUDP: inuse 0 mem 0\n\
        ==> sockstat6 <==\nTCP6: inuse 0\n==> snmp <==\nIp: 1 64 7 0 0 0 0 0 7 20 0\nTcp: 1 200 0\n\
        ==> snmp6 <==\nIp6InReceives 4\nIp6OutRequests 0\n";

    #[track_caller]
    fn check(from: &str, to: &str, same: bool) {
        assert!(LOOK.contains(from), "{from}");
        assert_eq!(Look::of(&LOOK.replacen(from, to, 1)).is_as(&Look::of(LOOK)), same, "{from} -> {to}");
    }

    #[test]
    fn what_somebody_left_is_seen() {
        check("local_address\n", "local_address\n   0: 0100007F:1F90 00000000:0000 07\n", false);
        check("TCP: inuse 0", "TCP: inuse 1", false);
        check("TCP6: inuse 0", "TCP6: inuse 1", false);
        check("UDP: inuse 0", "UDP: inuse 1", false);
        check("Protocol\n", "Protocol\n0000000000000000: 00000002 00000000 00010000 0001 01 5117 @left\n", false);
        check("2 0 5106163\n", "2 0 5106163\n0000000040f1e09e 0 77 0 0 0 0 2 0 5107\n", false);
        check("0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n", "", false);
        check("lo: 0 0", "lo: 84 1", false);
        check("7 20 0", "7 21 0", false);
        check("Ip6OutRequests 0", "Ip6OutRequests 1", false);
        check("eth0:", "eth1:", false);
        check("used 1", "used 2", false);
        check("tw 0", "tw 1", false);
        check("Tcp: 1 200 0", "Tcp: 1 200 1", false);
    }

    #[test]
    fn what_comes_from_others_is_no_matter() {
        let (one, other) =
            ("00000000466f34d8 0 0 00000000 0 0 0 2 0 5106163\n", "0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n");
        check(&format!("{one}{other}"), &format!("{other}{one}"), true);
        check("eth0: 646 7", "eth0: 900 9", true);
        check("alloc 11 mem 72", "alloc 80 mem 9", true);
        check("orphan 0", "orphan 3", true);
        check("466f34d8", "11111111", true);
        check("eth0: 646 7 0 0 0 0 0 0 0 0", "eth0: 688 8 0 0 0 0 0 0 42 1", true);
        check("Ip: 1 64 7", "Ip: 1 64 9", true);
        check("Ip6InReceives 4", "Ip6InReceives 5", true);
    }

    #[test]
    fn whoever_made_it_may_leave_it_and_not_come_back() {
        let socket = |inode| format!("Inode\n0000000000000000 2 3 0806 9 1 0 0 {inode}\n");
        let with = |inode, used: &str| {
            Look::of(&LOOK.replacen("Inode\n", &socket(inode), 1).replacen("used 1", &format!("used {used}"), 1))
        };
        let (first, without) = (with(51_234, "2"), Look::of(LOOK));
        assert!(first.tells() && without.tells());
        assert!(first.is_as(&first) && without.is_as(&first));
        assert!(!first.is_as(&without), "it came back");
        assert!(!with(51_235, "2").is_as(&first), "another one came");
        assert!(!with(51_234, "3").is_as(&first), "with a socket of another kind");
        assert_eq!(with(51_235, "2").beyond(&first), ["51235"]);
    }

    #[test]
    fn a_look_that_tells_nothing_proves_nothing() {
        assert!(Look::of(LOOK).tells());
        for gone in ["sockets: used 1\n", "TCP: inuse 0 orphan 0 tw 0 alloc 11 mem 72\n", "==> packet <==\n"] {
            assert!(LOOK.contains(gone), "{gone}");
            assert!(!Look::of(&LOOK.replacen(gone, "", 1)).tells(), "{gone}");
        }
    }
}
