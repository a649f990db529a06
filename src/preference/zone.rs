//! The time zones that a form offers: one or more of each country, by region, as in `zone.tab` of IANA's database.

use std::sync::LazyLock;

use crate::member::company;

/// The zones of a region, such as `Asia`.
pub struct Region {
    pub name: &'static str,
    pub zones: Vec<&'static str>,
}

/// All that are known on this machine.
pub fn regions() -> &'static [Region] {
    static REGIONS: LazyLock<Vec<Region>> = LazyLock::new(|| {
        let mut regions = Vec::<Region>::new();
        let known = include_str!("zones.txt").lines().filter(|zone| company::time_zone(zone).is_some());
        for zone in known {
            let name = zone.split('/').next().unwrap_or_default();
            match regions.last_mut().filter(|region| region.name == name) {
                Some(region) => region.zones.push(zone),
                None => regions.push(Region { name, zones: vec![zone] }),
            }
        }
        regions
    });
    &REGIONS
}

/// Whether the form offers it.
pub fn is_offered(name: &str) -> bool {
    regions().iter().any(|region| region.zones.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zones_of_our_languages_are_offered() {
        for zone in ["Asia/Tokyo", "Asia/Taipei", "Asia/Bangkok", "America/New_York", "Europe/London"] {
            assert!(is_offered(zone), "{zone}");
        }
        assert!(!is_offered("Etc/GMT+9"));
        let names: Vec<&str> = regions().iter().map(|region| region.name).collect();
        assert!(names.is_sorted() && names.contains(&"Asia") && regions().len() < 12, "{names:?}");
    }
}
