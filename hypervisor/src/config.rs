//! The domain configuration: which domains to build, and what they share.
//!
//! Lines of text: `[domain NAME]` and `[shared NAME]` begin sections, `key = value` sets, `#` begins a comment.

use crate::address::{Gfn, Gpa, PAGE_SIZE};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use xen_abi::shared_info::SHARED_INFO_GPA;

/// The configuration that ships with the hypervisor.
pub const DEFAULT: &str = include_str!("../domains.conf");
/// Most domains.
pub const MAX_DOMAINS: usize = 8;
/// Most vCPUs of a domain.
pub const MAX_VCPUS: u64 = 8;
/// Most memory of a domain, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// Most pages without a device that a domain is told about.
const MAX_HOLES: usize = 16;
/// Least memory of a domain, in bytes.
const MIN_MEMORY: u64 = 64 << 10;

/// A domain to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainConfig {
    /// Its name.
    pub name: String,
    /// Bytes of memory that it starts with, at guest-physical 0.
    pub memory: u64,
    /// Bytes of memory that it may own.
    pub maximum: u64,
    /// Its virtual processors; the first one is started.
    pub vcpus: u8,
    /// It may use the coverage hypercall.
    pub coverage: bool,
    /// It is the control domain, number 0. All others are numbered from 1 on.
    pub privileged: bool,
    /// What its start info gives it as command line.
    pub cmdline: String,
    /// Its start info says that it is the initial domain.
    pub initial: bool,
    /// Pages where no device is: they hold all ones, until the guest writes to them.
    pub holes: Vec<Gpa>,
}

/// How a domain's accesses to a region are cached (`XEN_DOMCTL_MEM_CACHEATTR_*` of Xen, those that the processor offers
/// after reset).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Write-back.
    #[default]
    WriteBack,
    /// Write-through.
    WriteThrough,
    /// Uncacheable, unless the guest's own tables say otherwise.
    Uncached,
    /// Uncacheable.
    StrongUncached,
}

/// A domain's view of a shared region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Name of the domain.
    pub domain: String,
    /// Where it finds it.
    pub gpa: Gpa,
    /// First byte of the region that it sees.
    pub offset: u64,
    /// Bytes that it sees; 0: all from there on.
    pub size: u64,
    /// It may write.
    pub writable: bool,
    /// How its accesses are cached.
    pub cache: Cache,
    /// The line that says so.
    pub line: usize,
}

/// A region of memory that domains share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where each of [`Self::domains`] finds it.
    pub gpa: Gpa,
    /// Names of domains that share it alike; it belongs to none of them.
    pub domains: Vec<String>,
    /// The domain that it belongs to, and as what it sees it.
    pub owner: Option<Share>,
    /// Domains that borrow it.
    pub borrowers: Vec<Share>,
    /// The line where it begins.
    pub line: usize,
}

impl SharedConfig {
    /// All views of the region, each with its true size.
    pub fn shares(&self) -> impl Iterator<Item = Share> + '_ {
        let alike = self.domains.iter().map(|domain| Share {
            domain: domain.clone(),
            gpa: self.gpa,
            offset: 0,
            size: self.size,
            writable: true,
            cache: Cache::WriteBack,
            line: self.line,
        });
        let others = self.owner.iter().chain(&self.borrowers).cloned().map(|share| Share {
            size: if share.size == 0 { self.size.saturating_sub(share.offset) } else { share.size },
            ..share
        });
        alike.chain(others)
    }
}

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Domains, the leader first.
    pub domains: Vec<DomainConfig>,
    /// Shared regions.
    pub shared: Vec<SharedConfig>,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, counted from 1; 0 where the error is not in one line.
    pub line: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domains.conf:{}: {}", self.line, self.message)
    }
}

enum Section {
    None,
    Domain,
    Shared,
}

/// Reads a configuration.
///
/// # Errors
/// [`ConfigError`] with the first line that is not right.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut section = Section::None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let parsed = if line.starts_with('[') {
            header(&mut config, line, number + 1).map(|new| section = new)
        } else {
            assignment(&mut config, &section, line, number + 1)
        };
        parsed.map_err(|message| ConfigError { line: number + 1, message })?;
    }
    check(&config)?;
    Ok(config)
}

fn header(config: &mut Config, line: &str, number: usize) -> Result<Section, String> {
    let inner = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let words: Vec<&str> = inner.unwrap_or_default().split_ascii_whitespace().collect();
    let &[kind, name] = &words[..] else {
        return Err(format!("`{line}` is no section; allowed are [domain NAME] and [shared NAME]"));
    };
    let taken = config.domains.iter().any(|domain| domain.name == name)
        || config.shared.iter().any(|region| region.name == name);
    if taken {
        return Err(format!("`{name}` is the name of another section"));
    }
    match kind {
        "domain" if config.domains.len() == MAX_DOMAINS => Err(format!("more than {MAX_DOMAINS} domains")),
        "domain" => {
            config.domains.push(DomainConfig {
                name: name.to_string(),
                memory: 4 << 20,
                maximum: 0,
                vcpus: 1,
                coverage: false,
                privileged: false,
                cmdline: String::new(),
                initial: false,
                holes: Vec::new(),
            });
            Ok(Section::Domain)
        }
        "shared" => {
            let region = SharedConfig {
                name: name.to_string(),
                size: 0,
                gpa: Gpa(0),
                domains: Vec::new(),
                owner: None,
                borrowers: Vec::new(),
                line: number,
            };
            config.shared.push(region);
            Ok(Section::Shared)
        }
        _ => Err(format!("`{kind}` is no kind of section; allowed are domain and shared")),
    }
}

fn assignment(config: &mut Config, section: &Section, line: &str, number: usize) -> Result<(), String> {
    let Some((key, value)) = line.split_once('=') else {
        return Err(format!("`{line}` is neither a section nor `key = value`"));
    };
    let (key, value) = (key.trim(), value.trim());
    match section {
        Section::None => Err(format!("`{key}` stands before any section; begin with [domain NAME]")),
        Section::Domain => match config.domains.last_mut() {
            Some(domain) => domain_key(domain, key, value),
            None => Ok(()),
        },
        Section::Shared => match config.shared.last_mut() {
            Some(region) => shared_key(region, key, value, number),
            None => Ok(()),
        },
    }
}

fn domain_key(domain: &mut DomainConfig, key: &str, value: &str) -> Result<(), String> {
    match key {
        "memory" => domain.memory = memory(value)?,
        "maximum" => domain.maximum = memory(value)?,
        "vcpus" => {
            domain.vcpus = match number(value)? {
                n @ 1..=MAX_VCPUS => n as u8,
                _ => return Err(format!("a domain has 1 to {MAX_VCPUS} vcpus, not `{value}`")),
            }
        }
        "coverage" => domain.coverage = yes_or_no(key, value)?,
        "privileged" => domain.privileged = yes_or_no(key, value)?,
        "cmdline" => domain.cmdline = value.to_string(),
        "initial" => domain.initial = yes_or_no(key, value)?,
        "holes" => domain.holes = value.split_ascii_whitespace().map(page).collect::<Result<_, _>>()?,
        _ => {
            return Err(format!(
                "a domain has no `{key}`; allowed are memory, maximum, vcpus, coverage, privileged, cmdline, initial, holes"
            ));
        }
    }
    Ok(())
}

fn yes_or_no(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{key} is yes or no, not `{value}`")),
    }
}

/// The guest-physical address of a page.
fn page(value: &str) -> Result<Gpa, String> {
    let gpa = number(value)?;
    if !gpa.is_multiple_of(PAGE_SIZE) || gpa >> 47 != 0 {
        return Err(format!("the address of a page is a multiple of {PAGE_SIZE} below 2^47, not `{value}`"));
    }
    Ok(Gpa(gpa))
}

fn shared_key(region: &mut SharedConfig, key: &str, value: &str, line: usize) -> Result<(), String> {
    match key {
        "size" => region.size = memory_size(value, PAGE_SIZE)?,
        "gpa" => region.gpa = page(value)?,
        "domains" => region.domains = value.split_ascii_whitespace().map(ToString::to_string).collect(),
        "owner" if region.owner.is_some() => {
            return Err(format!("shared region {} has an owner already", region.name));
        }
        "owner" => region.owner = Some(share(value, line)?),
        "borrower" => region.borrowers.push(share(value, line)?),
        _ => {
            return Err(format!(
                "a shared region has no `{key}`; allowed are size, gpa, domains, owner, borrower"
            ));
        }
    }
    Ok(())
}

/// A view of a region: `DOMAIN ADDRESS [ro|rw] [offset=N] [size=N] [cache=wb|wt|uc-|uc]`.
fn share(value: &str, line: usize) -> Result<Share, String> {
    let mut words = value.split_ascii_whitespace();
    let (Some(domain), Some(gpa)) = (words.next(), words.next()) else {
        return Err(format!("`{value}` is no view of a region; begin with a domain and an address"));
    };
    let mut share = Share {
        domain: domain.to_string(),
        gpa: page(gpa)?,
        offset: 0,
        size: 0,
        writable: true,
        cache: Cache::WriteBack,
        line,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "ro" => share.writable = false,
            None if word == "rw" => share.writable = true,
            Some(("offset", offset)) => share.offset = number(offset)?,
            Some(("size", size)) => share.size = memory_size(size, PAGE_SIZE)?,
            Some(("cache", "wb")) => share.cache = Cache::WriteBack,
            Some(("cache", "wt")) => share.cache = Cache::WriteThrough,
            Some(("cache", "uc-")) => share.cache = Cache::Uncached,
            Some(("cache", "uc")) => share.cache = Cache::StrongUncached,
            _ => {
                return Err(format!(
                    "a view has no `{word}`; allowed are ro, rw, offset=, size=, cache=wb|wt|uc-|uc"
                ));
            }
        }
    }
    if !share.offset.is_multiple_of(PAGE_SIZE) {
        return Err(format!("an offset is a multiple of {PAGE_SIZE}, not `{:#x}`", share.offset));
    }
    Ok(share)
}

fn number(text: &str) -> Result<u64, String> {
    let (digits, scale) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.ok().and_then(|n| n.checked_mul(scale)).ok_or_else(|| {
        format!("`{text}` is no number; allowed are decimal, 0x and hexadecimal, with K, M or G behind it")
    })
}

fn memory_size(text: &str, least: u64) -> Result<u64, String> {
    match number(text)? {
        n if n.is_multiple_of(PAGE_SIZE) && (least..=MAX_MEMORY).contains(&n) => Ok(n),
        _ => Err(format!("a size is a multiple of 4K from {}K to 1G, not `{text}`", least >> 10)),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    memory_size(text, MIN_MEMORY)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    check_domains(config).map_err(|message| ConfigError { line: 0, message })?;
    for region in &config.shared {
        check_region(config, region).map_err(|message| ConfigError { line: region.line, message })?;
        for share in region.shares() {
            check_share(config, region, &share)
                .map_err(|message| ConfigError { line: share.line, message })?;
        }
    }
    check_overlaps(config)
}

fn check_domains(config: &Config) -> Result<(), String> {
    if config.domains.is_empty() {
        return Err("there is no [domain NAME]".into());
    }
    for domain in &config.domains {
        if domain.maximum != 0 && domain.maximum < domain.memory {
            return Err(format!("domain {}: maximum is less than memory", domain.name));
        }
        if domain.memory > SHARED_INFO_GPA {
            return Err(format!("domain {}: memory ends at {SHARED_INFO_GPA:#x} at most", domain.name));
        }
        if domain.holes.len() > MAX_HOLES || domain.holes.iter().any(|hole| hole.0 < domain.memory) {
            return Err(format!(
                "domain {}: holes are at most {MAX_HOLES}, and outside its memory",
                domain.name
            ));
        }
    }
    if config.domains.iter().filter(|domain| domain.privileged).count() > 1 {
        return Err("more than one domain is privileged".into());
    }
    Ok(())
}

fn check_region(config: &Config, region: &SharedConfig) -> Result<(), String> {
    let name = &region.name;
    if region.size == 0 {
        return Err(format!("shared region {name} has no size"));
    }
    match &region.owner {
        Some(_) if !region.domains.is_empty() => {
            return Err(format!("shared region {name} has either an owner or domains that share it alike"));
        }
        None if !region.borrowers.is_empty() => {
            return Err(format!("shared region {name} is borrowed, but has no owner"));
        }
        Some(owner) if region.borrowers.iter().any(|share| share.domain == owner.domain) => {
            return Err(format!("shared region {name} is borrowed by its owner, {}", owner.domain));
        }
        _ => {}
    }
    let absent = |share: &Share| config.domains.iter().all(|domain| domain.name != share.domain);
    if let Some(owner) = region.owner.as_ref().filter(|owner| absent(owner)) {
        return Err(format!("shared region {name}: its owner `{}` is missing", owner.domain));
    }
    Ok(())
}

fn check_share(config: &Config, region: &SharedConfig, share: &Share) -> Result<(), String> {
    let name = &region.name;
    let Some(domain) = config.domains.iter().find(|domain| domain.name == share.domain) else {
        return Err(format!("shared region {name}: there is no domain `{}`", share.domain));
    };
    if share.size == 0 || share.offset.checked_add(share.size).is_none_or(|end| end > region.size) {
        return Err(format!("shared region {name}: {} looks beyond its end", share.domain));
    }
    let end = share.gpa.0.saturating_add(share.size);
    if share.gpa.0 < domain.memory {
        return Err(format!("shared region {name}: its gpa lies in the memory of {}", share.domain));
    }
    if share.gpa.0 < SHARED_INFO_GPA + PAGE_SIZE && end > SHARED_INFO_GPA {
        return Err(format!("shared region {name} overlaps the shared-info page at {SHARED_INFO_GPA:#x}"));
    }
    Ok(())
}

/// No two views of one domain overlap.
fn check_overlaps(config: &Config) -> Result<(), ConfigError> {
    let mut seen: Vec<(Share, &str)> = Vec::new();
    for region in &config.shared {
        for share in region.shares() {
            let meets = |other: &Share| {
                other.domain == share.domain
                    && share.gpa.0 < other.gpa.0.saturating_add(other.size)
                    && other.gpa.0 < share.gpa.0.saturating_add(share.size)
            };
            if let Some((_, other)) = seen.iter().find(|(other, _)| meets(other)) {
                let message = format!("shared region {} overlaps {other} in {}", region.name, share.domain);
                return Err(ConfigError { line: share.line, message });
            }
            seen.push((share, &region.name));
        }
    }
    Ok(())
}

impl DomainConfig {
    /// Pages that it starts with.
    pub const fn pages(&self) -> u64 {
        self.memory / PAGE_SIZE
    }

    /// Most pages that it may own: `maximum`, or what it starts with.
    pub fn max_pages(&self) -> u64 {
        self.memory.max(self.maximum) / PAGE_SIZE
    }

    /// Its last page, where the start info lies.
    pub const fn last_page(&self) -> Gfn {
        Gfn(self.pages() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_is_a_control_domain_two_others_and_the_channel() {
        let config = parse(DEFAULT).unwrap();
        let names: Vec<_> = config.domains.iter().map(|d| (d.name.as_str(), d.privileged, d.vcpus)).collect();
        assert_eq!(names, [("d0", true, 1), ("d1", false, 3), ("d2", false, 3)]);
        assert!(config.domains.iter().all(|d| d.memory == 4 << 20 && d.coverage));
        assert_eq!(config.shared.len(), 2);
        assert_eq!(config.shared[0].name, "channel");
        let pool: Vec<_> =
            config.shared[1].shares().map(|s| (s.domain, s.offset, s.size, s.writable, s.cache)).collect();
        assert_eq!(
            pool,
            [
                ("d1".into(), 0, 16 << 10, true, Cache::WriteBack),
                ("d2".into(), 4 << 10, 12 << 10, false, Cache::WriteBack),
                ("d0".into(), 0, 8 << 10, true, Cache::StrongUncached),
            ]
        );
        assert_eq!(config.shared[0].gpa.0, coverage_hypercall::channel::CHANNEL_GPA);
        assert_eq!(config.shared[0].size, coverage_hypercall::channel::CHANNEL_LEN as u64);
    }

    #[test]
    fn every_error_names_its_line_and_what_is_wrong() {
        let cases = [
            ("", 0, "there is no [domain NAME]"),
            ("memory = 4M", 1, "before any section"),
            ("[domain]", 1, "allowed are [domain NAME]"),
            ("[domain a", 1, "no section"),
            ("[vm a]", 1, "allowed are domain and shared"),
            ("[domain a]\n[domain a]", 2, "name of another"),
            ("[domain a]\nmemory", 2, "key = value"),
            ("[domain a]\ncolour = red", 2, "allowed are memory"),
            ("[domain a]\nmemory = much", 2, "no number"),
            ("[domain a]\nmemory = 5000", 2, "multiple of 4K"),
            ("[domain a]\nmemory = 4K", 2, "from 64K"),
            ("[domain a]\nmemory = 0xffffffffffffffffG", 2, "no number"),
            ("[domain a]\nvcpus = 0", 2, "1 to 8 vcpus"),
            ("[domain a]\nvcpus = 9", 2, "1 to 8 vcpus"),
            ("[domain a]\n\ncoverage = maybe", 3, "yes or no"),
            ("[domain a]\nprivileged = 1", 2, "privileged is yes or no"),
            (
                "[domain a]\nprivileged=yes\n[domain b]\nprivileged=yes",
                0,
                "more than one domain is privileged",
            ),
            ("[domain a]\ninitial = perhaps", 2, "yes or no"),
            ("[domain a]\nholes = 0xfec00000 0xfed00001", 2, "multiple of 4096"),
            ("[domain a]\nholes = 0x1000", 0, "outside its memory"),
            ("[domain a]\nmemory = 4M\nmaximum = 2M", 0, "maximum is less"),
            ("[domain a]\n[shared s]\ncolour = a", 3, "allowed are size"),
            ("[domain a]\n[shared s]\ngpa = 0x1001", 3, "multiple of 4096"),
            ("[domain a]\n[shared s]\ngpa = 0x10000000", 2, "has no size"),
            ("[domain a]\n[shared s]\nsize = 4K\ndomains = b", 2, "no domain `b`"),
            ("[domain a]\n[shared s]\nsize = 4K\ngpa = 0x1000\ndomains = a", 2, "in the memory of a"),
            (
                "[domain a]\n[shared s]\nsize=8K\ngpa=0x10000000\ndomains=a\n[shared t]\nsize=4K\ngpa=0x10001000\ndomains=a",
                6,
                "overlaps s in a",
            ),
            ("[domain a]\nmemory = 1G", 0, "memory ends at 0x39000000"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = a", 4, "a domain and an address"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000800", 4, "multiple of 4096"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000 wo", 4, "has no `wo`"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000 cache=wc", 4, "has no `cache=wc`"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000 offset=1", 4, "offset is a multiple"),
            ("[domain a]\n[shared s]\nsize=8K\nowner = a 0x10000000 offset=4K size=8K", 4, "beyond its end"),
            ("[domain a]\n[shared s]\nsize=8K\nowner = a 0x10000000 offset=8K", 4, "beyond its end"),
            ("[domain a]\n[shared s]\nsize=4K\nowner = b 0x10000000", 2, "its owner `b` is missing"),
            ("[domain a]\n[shared s]\nsize=4K\nborrower = a 0x10000000", 2, "has no owner"),
            (
                "[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000\nowner = a 0x10000000",
                5,
                "has an owner already",
            ),
            (
                "[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000\nborrower = a 0x11000000",
                2,
                "borrowed by its owner",
            ),
            (
                "[domain a]\n[shared s]\nsize=4K\nowner = a 0x10000000\ndomains = a",
                2,
                "either an owner or domains",
            ),
            (
                "[domain a]\n[domain b]\n[shared s]\nsize=8K\nowner = a 0x10000000\nborrower = b 0x10000000\nborrower = b 0x10001000 ro",
                7,
                "overlaps s in b",
            ),
            ("[domain a]\n[shared s]\nsize=8K\nowner = a 0x38fff000", 4, "overlaps the shared-info page"),
        ];
        for (text, line, what) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.message.contains(what), "{text}: {error}");
        }
        let many: String = (0..9).map(|n| format!("[domain d{n}]\n")).collect();
        assert!(parse(&many).unwrap_err().message.contains("more than 8"));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_panic(text in "(\\[?(domain|shared)? ?[a-z]?\\]?|[a-z]+ ?= ?[0-9a-zKMG]{0,6}|.{0,8}|\n){0,40}") {
            let _ = parse(&text);
        }
    }
}
