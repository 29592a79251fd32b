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
    /// What its start info gives it as command line.
    pub cmdline: String,
    /// Its start info says that it is the initial domain.
    pub initial: bool,
    /// Pages where no device is: they hold all ones, until the guest writes to them.
    pub holes: Vec<Gpa>,
}

/// A region of memory that domains share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where each domain finds it.
    pub gpa: Gpa,
    /// Names of the domains.
    pub domains: Vec<String>,
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
            header(&mut config, line).map(|new| section = new)
        } else {
            assignment(&mut config, &section, line)
        };
        parsed.map_err(|message| ConfigError { line: number + 1, message })?;
    }
    check(&config).map_err(|message| ConfigError { line: 0, message })?;
    Ok(config)
}

fn header(config: &mut Config, line: &str) -> Result<Section, String> {
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
                cmdline: String::new(),
                initial: false,
                holes: Vec::new(),
            });
            Ok(Section::Domain)
        }
        "shared" => {
            let region = SharedConfig { name: name.to_string(), size: 0, gpa: Gpa(0), domains: Vec::new() };
            config.shared.push(region);
            Ok(Section::Shared)
        }
        _ => Err(format!("`{kind}` is no kind of section; allowed are domain and shared")),
    }
}

fn assignment(config: &mut Config, section: &Section, line: &str) -> Result<(), String> {
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
            Some(region) => shared_key(region, key, value),
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
        "cmdline" => domain.cmdline = value.to_string(),
        "initial" => domain.initial = yes_or_no(key, value)?,
        "holes" => domain.holes = value.split_ascii_whitespace().map(page).collect::<Result<_, _>>()?,
        _ => {
            return Err(format!(
                "a domain has no `{key}`; allowed are memory, maximum, vcpus, coverage, cmdline, initial, holes"
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

fn shared_key(region: &mut SharedConfig, key: &str, value: &str) -> Result<(), String> {
    match key {
        "size" => region.size = memory_size(value, PAGE_SIZE)?,
        "gpa" => region.gpa = page(value)?,
        "domains" => region.domains = value.split_ascii_whitespace().map(ToString::to_string).collect(),
        _ => return Err(format!("a shared region has no `{key}`; allowed are size, gpa, domains")),
    }
    Ok(())
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

fn check(config: &Config) -> Result<(), String> {
    if config.domains.is_empty() {
        return Err("there is no [domain NAME]".into());
    }
    for domain in &config.domains {
        if domain.maximum != 0 && domain.maximum < domain.memory {
            return Err(format!("domain {}: maximum is less than memory", domain.name));
        }
        if domain.holes.len() > MAX_HOLES || domain.holes.iter().any(|hole| hole.0 < domain.memory) {
            return Err(format!(
                "domain {}: holes are at most {MAX_HOLES}, and outside its memory",
                domain.name
            ));
        }
    }
    for region in &config.shared {
        if region.size == 0 {
            return Err(format!("shared region {} has no size", region.name));
        }
        for name in &region.domains {
            let Some(domain) = config.domains.iter().find(|domain| domain.name == *name) else {
                return Err(format!("shared region {}: there is no domain `{name}`", region.name));
            };
            if region.gpa.0 < domain.memory {
                return Err(format!("shared region {}: its gpa lies in the memory of {name}", region.name));
            }
        }
        if overlaps(config, region) {
            return Err(format!("shared region {} overlaps another in the same domain", region.name));
        }
    }
    Ok(())
}

fn overlaps(config: &Config, region: &SharedConfig) -> bool {
    config.shared.iter().any(|other| {
        other.name != region.name
            && other.domains.iter().any(|name| region.domains.contains(name))
            && region.gpa.0 < other.gpa.0.saturating_add(other.size)
            && other.gpa.0 < region.gpa.0.saturating_add(region.size)
    })
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
    fn the_default_is_two_domains_and_the_channel() {
        let config = parse(DEFAULT).unwrap();
        assert_eq!(config.domains.len(), 2);
        assert!(config.domains.iter().all(|d| d.memory == 4 << 20 && d.coverage && d.vcpus == 3));
        assert_eq!(config.shared.len(), 1);
        assert_eq!(config.shared[0].name, "channel");
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
            ("[domain a]\ninitial = perhaps", 2, "yes or no"),
            ("[domain a]\nholes = 0xfec00000 0xfed00001", 2, "multiple of 4096"),
            ("[domain a]\nholes = 0x1000", 0, "outside its memory"),
            ("[domain a]\nmemory = 4M\nmaximum = 2M", 0, "maximum is less"),
            ("[domain a]\n[shared s]\nowner = a", 3, "allowed are size"),
            ("[domain a]\n[shared s]\ngpa = 0x1001", 3, "multiple of 4096"),
            ("[domain a]\n[shared s]\ngpa = 0x10000000", 0, "has no size"),
            ("[domain a]\n[shared s]\nsize = 4K\ndomains = b", 0, "no domain `b`"),
            ("[domain a]\n[shared s]\nsize = 4K\ngpa = 0x1000\ndomains = a", 0, "in the memory of a"),
            (
                "[domain a]\n[shared s]\nsize=8K\ngpa=0x10000000\ndomains=a\n[shared t]\nsize=4K\ngpa=0x10001000\ndomains=a",
                0,
                "overlaps",
            ),
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
