//! The machine, in words.

use std::{fs, process::Command};

/// What a reader of a run must know of the machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_gib: f64,
}

impl Machine {
    pub(super) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            processor: field(&cpuinfo, "model name")
                .unwrap_or("unknown processor")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_gib: kib.unwrap_or(0.0) / 1024.0 / 1024.0,
        }
    }

    /// For a folder's name: `intel-xeon-2c`.
    pub(super) fn short_name(&self) -> String {
        let noise = ["r", "tm", "cpu", "processor", "genuine", "authenticamd"];
        let name = self.processor.to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<_> = words
            .filter(|w| !w.is_empty() && !noise.contains(w))
            .take(4)
            .collect();
        format!("{}-{}c", words.join("-"), self.cores)
    }
}

/// The value of `name : value` or `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// The three load averages: how busy others kept the machine.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The first line that a command prints, or `unknown`.
pub(super) fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    if line.is_empty() {
        "unknown".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_name_has_the_words_that_matter() {
        let machine = Machine {
            processor: "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz".to_owned(),
            cores: 2,
            memory_gib: 24.0,
        };
        assert_eq!(machine.short_name(), "intel-xeon-platinum-8481c-2c");
    }
}
