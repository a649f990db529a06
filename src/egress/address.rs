//! Which addresses are everybody's, by IANA's registries of special ones: a rule without I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is everybody's: not this machine's, not of a private network, no metadata service, nothing that
/// is led on to such a one. By IANA's registries of special addresses.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        // What is given out is within 2000::/3; NAT64 and IPv4-mapped addresses, for instance, are not.
        IpAddr::V6(address) => {
            address.segments()[0] & 0xe000 == 0x2000 && !SPECIAL_V6.iter().any(|special| is_in_v6(address, *special))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    !SPECIAL_V4.iter().any(|(network, length)| (bits ^ u32::from(Ipv4Addr::from(*network))) >> (32 - length) == 0)
}

const SPECIAL_V4: [([u8; 4], u32); 17] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // With the metadata services of clouds.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, what is reserved, broadcast.
    ([224, 0, 0, 0], 3),
    // Azure's own service on each of its machines.
    ([168, 63, 129, 16], 32),
];

/// Of 2000::/3: protocols (Teredo, ORCHID, benchmarks), documentation, 6to4.
const SPECIAL_V6: [(u128, u32); 4] = [
    (0x2001_0000_0000_0000_0000_0000_0000_0000, 23),
    (0x2001_0db8_0000_0000_0000_0000_0000_0000, 32),
    (0x2002_0000_0000_0000_0000_0000_0000_0000, 16),
    (0x3fff_0000_0000_0000_0000_0000_0000_0000, 20),
];

fn is_in_v6(address: Ipv6Addr, (network, length): (u128, u32)) -> bool {
    (u128::from(address) ^ network) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j08_which_addresses_are_public() {
        for (text, expected) in [
            ("8.8.8.8", true),
            ("147.92.150.192", true),
            ("172.32.0.1", true),
            ("100.63.255.255", true),
            ("223.255.255.255", true),
            ("2001:4860:4860::8888", true),
            ("2606:4700::1111", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("100.100.100.200", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("168.63.129.16", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("192.0.0.192", false),
            ("192.168.1.1", false),
            ("198.19.255.255", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", false),
            ("64:ff9b:1::a00:1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("100::1", false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(is_public(address.to_canonical()), expected, "{text}");
        }
        assert!(is_public("::ffff:8.8.8.8".parse::<IpAddr>().unwrap().to_canonical()));
    }
}
