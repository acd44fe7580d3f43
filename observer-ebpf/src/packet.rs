//! Where the TCP payload of an IP packet lies; pure, shared with the host's tests.

/// TCP flag bits (RFC 9293 section 3.1), as in byte 13 of the header.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
}

/// IPv4 header without options (RFC 791 section 3.1).
pub const IPV4_MIN_HEADER: usize = 20;
/// First byte of an IPv4 header without options: version 4, five words.
pub const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
/// Fixed IPv6 header (RFC 8200 section 3).
pub const IPV6_HEADER: usize = 40;
/// TCP header without options.
pub const TCP_MIN_HEADER: usize = 20;
/// Protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;
/// UDP header (RFC 768).
pub const UDP_HEADER: usize = 8;
/// Port of DNS (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;
/// Header of a message of DNS (RFC 1035 section 4.1.1).
pub const DNS_HEADER: u32 = 12;
/// Least payload of a datagram with an Initial packet of QUIC (RFC 9000 section 14.1).
pub const QUIC_INITIAL_DATAGRAM: u32 = 1200;

/// Whether a datagram that starts with these five bytes may start with an Initial packet of QUIC: a
/// long header of a version (RFC 8999 section 5.1) with the packet type of Initial, which is 0, and
/// 1 in version 2 (RFC 9000 section 17.2, RFC 9369 section 3.2).
#[inline(always)]
pub const fn is_quic_initial(first: u8, version: u32) -> bool {
    let kind = first >> 4 & 3;
    first >> 6 == 3 && version != 0 && (kind == 0 || kind == 1 && version == QUIC_V2)
}

/// Whether a datagram of DNS's port may be DNS: its flags and its number of questions, which is one
/// (RFC 9619), or none in a response. What else uses the port need not be shipped.
#[inline(always)]
pub const fn is_dns(flags: u16, questions: u16) -> bool {
    questions == 1 || questions == 0 && flags & 0x8000 != 0
}

/// Version 2 of QUIC (RFC 9369).
pub const QUIC_V2: u32 = 0x6b33_43cf;

/// Signed distance from sequence number `from` to `to` (RFC 9293 section 3.4: modulo 2^32).
#[inline(always)]
pub const fn sequence_distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// Length of an IPv4 header from its first byte, or `None` when the byte is not of IPv4.
#[inline(always)]
pub const fn ipv4_header_length(first: u8) -> Option<usize> {
    let length = ((first & 0x0f) as usize) * 4;
    if first >> 4 == 4 && length >= 20 {
        Some(length)
    } else {
        None
    }
}

/// Length of a TCP header from its byte 12 (data offset).
#[inline(always)]
pub const fn tcp_header_length(offset: u8) -> usize {
    ((offset >> 4) as usize) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(sequence_distance(10, 15), 5);
        assert_eq!(sequence_distance(15, 10), -5);
        assert_eq!(sequence_distance(u32::MAX - 1, 3), 5);
        assert_eq!(sequence_distance(3, u32::MAX - 1), -5);
    }

    #[test]
    fn initial_packets_are_told_by_their_first_bytes() {
        assert!(is_quic_initial(0xc3, 1));
        assert!(is_quic_initial(0xd0, QUIC_V2));
        assert!(!is_quic_initial(0xd0, 1), "0-RTT");
        assert!(!is_quic_initial(0xe0, 1), "Handshake");
        assert!(!is_quic_initial(0xc0, 0), "version negotiation");
        assert!(!is_quic_initial(0x43, 1), "short header");
        assert!(!is_quic_initial(0x80, 1), "not the fixed bit");
    }

    #[test]
    fn messages_of_dns_have_one_question() {
        assert!(is_dns(0x0100, 1));
        assert!(is_dns(0x8180, 1));
        assert!(is_dns(0x8001, 0), "an error may leave it out");
        assert!(!is_dns(0x0100, 0));
        assert!(!is_dns(0x0000, 0x4711), "a tunnel");
    }

    #[test]
    fn header_lengths() {
        assert_eq!(ipv4_header_length(0x45), Some(20));
        assert_eq!(ipv4_header_length(0x4f), Some(60));
        assert_eq!(
            ipv4_header_length(0x44),
            None,
            "shorter than the fixed part"
        );
        assert_eq!(ipv4_header_length(0x60), None);
        assert_eq!(tcp_header_length(0x50), 20);
        assert_eq!(tcp_header_length(0xf0), 60);
    }
}
