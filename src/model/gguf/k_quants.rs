//! ggml's K-quants: blocks of 256 values with scales that are quantized themselves (llama.cpp, `ggml-quants.c`).

use half::f16;

/// Values in a block.
pub(super) const VALUES: usize = 256;
/// 16 bytes of scales and minima, 64 of values, two f16.
pub(super) const Q2_K_BYTES: usize = 16 + 64 + 4;
/// 32 bytes of high bits, 64 of low bits, 12 of scales, one f16.
pub(super) const Q3_K_BYTES: usize = 32 + 64 + 12 + 2;
/// Two f16, 12 bytes of scales and minima, 128 of values.
pub(super) const Q4_K_BYTES: usize = 4 + 12 + 128;
/// Two f16, 12 bytes of scales and minima, 32 of high bits, 128 of low bits.
pub(super) const Q5_K_BYTES: usize = 4 + 12 + 32 + 128;
/// 128 bytes of low bits, 64 of high bits, 16 scales, one f16.
pub(super) const Q6_K_BYTES: usize = 128 + 64 + 16 + 2;

/// Byte of a block; every index here is below the block's length by construction.
fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or_default()
}

fn half_at(bytes: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([at(bytes, index), at(bytes, index + 1)]).to_f32()
}

/// Value n lies in byte 32·(n/128) + n%32, bits 2·(n/32%4); scale n/16.
fn two_bits(bytes: &[u8], n: usize) -> u8 {
    at(bytes, 32 * (n / 128) + n % 32) >> (2 * (n / 32 % 4)) & 3
}

/// Value n lies in byte 32·(n/64) + n%32, its lower half for even n/32.
fn four_bits(bytes: &[u8], n: usize) -> u8 {
    at(bytes, 32 * (n / 64) + n % 32) >> (4 * (n / 32 % 2)) & 15
}

/// d·s·q − dmin·m: scale s in the lower, minimum m in the upper half of a byte.
pub(super) fn q2_k(block: &[u8; Q2_K_BYTES]) -> Vec<f32> {
    let (scales, quants) = block.split_at(16);
    let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
    let value = |n: usize| {
        let own = at(scales, n / 16);
        let (own_scale, own_minimum) = (scale * f32::from(own & 15), minimum * f32::from(own >> 4));
        own_scale * f32::from(two_bits(quants, n)) - own_minimum
    };
    (0..VALUES).map(value).collect()
}

/// d·(s − 32)·(q − 4·[high bit clear]): six-bit scales in 12 bytes.
pub(super) fn q3_k(block: &[u8; Q3_K_BYTES]) -> Vec<f32> {
    let (high, rest) = block.split_at(32);
    let (quants, scales) = rest.split_at(64);
    let scale = half_at(block, 108);
    let own_scale = |index: usize| {
        // Four low bits: bytes 0 .. 8, lower halves first. Two high bits: bytes 8 .. 12, two bits for every four
        // scales.
        let low = at(scales, index % 8) >> (4 * (index / 8)) & 15;
        let top = at(scales, 8 + index % 4) >> (2 * (index / 4)) & 3;
        f32::from(low | top << 4) - 32.0
    };
    let value = |n: usize| {
        let is_high = at(high, n % 32) >> (n / 32) & 1 == 1;
        let quant = f32::from(two_bits(quants, n)) - if is_high { 0.0 } else { 4.0 };
        scale * own_scale(n / 16) * quant
    };
    (0..VALUES).map(value).collect()
}

/// Scale and minimum of 32 values, six bits each: 12 bytes hold eight of both.
fn scale_and_minimum(scales: &[u8], index: usize) -> (f32, f32) {
    let (scale, minimum) = if index < 4 {
        (at(scales, index) & 63, at(scales, index + 4) & 63)
    } else {
        let low = at(scales, index + 4);
        (low & 15 | at(scales, index - 4) >> 6 << 4, low >> 4 | at(scales, index) >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// d·s·q − dmin·m.
pub(super) fn q4_k(block: &[u8; Q4_K_BYTES]) -> Vec<f32> {
    let (scales, quants) = block.split_at(4).1.split_at(12);
    with_minima(block, scales, |n| f32::from(four_bits(quants, n)))
}

/// d·s·q − dmin·m, the fifth bit of value n being bit n/32 of byte n%32.
pub(super) fn q5_k(block: &[u8; Q5_K_BYTES]) -> Vec<f32> {
    let (scales, rest) = block.split_at(4).1.split_at(12);
    let (high, quants) = rest.split_at(32);
    with_minima(block, scales, |n| {
        let fifth = at(high, n % 32) >> (n / 32) & 1;
        f32::from(four_bits(quants, n) | fifth << 4)
    })
}

fn with_minima(block: &[u8], scales: &[u8], quant: impl Fn(usize) -> f32) -> Vec<f32> {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let value = |n: usize| {
        let (own_scale, own_minimum) = scale_and_minimum(scales, n / 32);
        scale * own_scale * quant(n) - minimum * own_minimum
    };
    (0..VALUES).map(value).collect()
}

/// d·s·(q − 32): per half of 128 values, low bits in 64 bytes (lower halves first), high bits in 32.
pub(super) fn q6_k(block: &[u8; Q6_K_BYTES]) -> Vec<f32> {
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    let scale = half_at(block, 208);
    let value = |n: usize| {
        let (half, inner) = (n / 128, n % 128);
        let bits = at(low, 64 * half + inner % 64) >> (4 * (inner / 64)) & 15;
        let top = at(high, 32 * half + inner % 32) >> (2 * (inner / 32)) & 3;
        let quant = f32::from(bits | top << 4) - 32.0;
        scale * f32::from(at(scales, n / 16).cast_signed()) * quant
    };
    (0..VALUES).map(value).collect()
}
