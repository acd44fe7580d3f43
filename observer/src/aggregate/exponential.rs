//! Exponential histograms: buckets whose bounds grow by a constant factor, as narrow as fit.
//!
//! As in OpenTelemetry (metrics data model, "ExponentialHistogram"), bucket `index` of scale `s`
//! takes what is above `base^index` and not above `base^(index + 1)`, with `base = 2^(2^-s)`. A
//! native histogram of Prometheus with schema `s` calls the same bucket `index + 1`.
//!
//! It starts at [`MAX_SCALE`], so that a bucket's bounds are 4.4 % apart, and merges buckets by
//! two when a value does not fit into [`MAX_BUCKETS`]: at 4.4 % they span a factor of 1 024 from
//! lowest to highest value, at 9.1 % one of a million. Whole 64-bit numbers never need a scale
//! below 1. So all scales are schemas of Prometheus, which has -4 to 8.

/// Counts of values by their magnitude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    scale: i8,
    /// Index of the first bucket.
    offset: i32,
    /// Values that were 0, which has no magnitude.
    zero_count: u64,
    /// From the first bucket with a value to the last.
    counts: Counts,
}

/// Counts as narrow as they fit: most buckets of most series never see 65 536 values.
#[derive(Clone, Debug)]
enum Counts {
    Narrow(Vec<u16>),
    Middle(Vec<u32>),
    Wide(Vec<u64>),
}

/// Highest scale: 16 buckets from each power of two to the next.
pub const MAX_SCALE: i8 = 4;

/// Most buckets of one histogram (`MaxSize` of the OpenTelemetry metrics SDK specification).
pub const MAX_BUCKETS: usize = 160;

/// Buckets from a power of two to the next at [`MAX_SCALE`].
const BUCKETS: usize = 1 << MAX_SCALE;

/// Bits of the fraction of an `f64`.
const FRACTION: u32 = f64::MANTISSA_DIGITS - 1;

/// Room is made in steps of so many buckets.
const STEP: usize = 16;

/// Fraction bits of the lower bound of each bucket between 1 and 2, rounded down, and a last one
/// that no value is above. Bounds but 1 are irrational: a value is above one if it is above what
/// that was rounded down to.
static BOUNDS: [u64; BUCKETS + 1] = bounds();

/// The bucket that each of twice as many steps of equal width begins in. No step has more than one
/// bound in it.
static GUIDE: [u8; 2 * BUCKETS] = guide();

// === impl Exponential ===

impl Exponential {
    /// Counts a value that is 0 or positive, and finite.
    pub fn observe(&mut self, value: f64) {
        if value > 0.0 {
            self.add(index(value), MAX_SCALE, 1);
        } else {
            self.zero_count += 1;
        }
    }

    /// Adds all that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.zero_count += other.zero_count;
        if other.scale < self.scale {
            self.coarsen(self.scale.abs_diff(other.scale).into());
        }
        for (slot, count) in other.counts().enumerate() {
            if count > 0 {
                self.add(other.offset + small(slot), other.scale, count);
            }
        }
    }

    /// Scale of the buckets, 1 to [`MAX_SCALE`].
    pub fn scale(&self) -> i8 {
        self.scale
    }

    /// Index of the first of [`counts`](Self::counts).
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Values that were 0.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// Values by bucket, from the lowest that has any to the highest.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = u64> {
        (0..self.counts.len()).map(|slot| self.counts.get(slot))
    }

    /// All values that were counted.
    pub fn count(&self) -> u64 {
        self.zero_count + self.counts().sum::<u64>()
    }

    /// Bytes that its buckets take.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        match &self.counts {
            Counts::Narrow(counts) => counts.capacity() * 2,
            Counts::Middle(counts) => counts.capacity() * 4,
            Counts::Wide(counts) => counts.capacity() * 8,
        }
    }

    /// Adds `count` values to the bucket with `index` at `scale`, which is not below its own.
    fn add(&mut self, index: i32, scale: i8, count: u64) {
        let index = index >> scale.abs_diff(self.scale).min(31);
        let slot = usize::try_from(index - self.offset);
        match slot {
            Ok(slot) if slot < self.counts.len() => self.counts.add(slot, count),
            _ => self.widen(index, count),
        }
    }

    /// Makes room for a bucket that is below the first or above the last, and adds to it.
    #[cold]
    fn widen(&mut self, mut index: i32, count: u64) {
        if self.counts.len() == 0 {
            self.offset = index;
        }
        let last = self.offset + small(self.counts.len()) - 1;
        let (mut low, mut high) = (self.offset.min(index), last.max(index));
        let mut by = 0;
        while high - low >= small(MAX_BUCKETS) {
            (low, high, by) = (low >> 1, high >> 1, by + 1);
        }
        self.coarsen(by);
        index >>= by.min(31);
        let below = usize::try_from(self.offset - index).unwrap_or_default();
        if below > 0 {
            self.counts.insert_below(below);
            self.offset = index;
        }
        if let Ok(slot) = usize::try_from(index - self.offset) {
            self.counts.grow(slot + 1);
            self.counts.add(slot, count);
        }
    }

    /// Merges buckets by two, `by` times.
    fn coarsen(&mut self, by: u32) {
        if by == 0 {
            return;
        }
        let by = by.min(31);
        let offset = self.offset >> by;
        let mut counts = Counts::default();
        for (slot, count) in self.counts().enumerate() {
            let slot = usize::try_from(((self.offset + small(slot)) >> by) - offset);
            if let Ok(slot) = slot {
                counts.grow(slot + 1);
                counts.add(slot, count);
            }
        }
        self.scale -= i8::try_from(by).unwrap_or_default();
        self.offset = offset;
        self.counts = counts;
    }
}

impl Default for Exponential {
    fn default() -> Self {
        Self {
            scale: MAX_SCALE,
            offset: 0,
            zero_count: 0,
            counts: Counts::default(),
        }
    }
}

// === impl Counts ===

impl Counts {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(counts) => counts.len(),
            Self::Middle(counts) => counts.len(),
            Self::Wide(counts) => counts.len(),
        }
    }

    fn get(&self, slot: usize) -> u64 {
        let count = match self {
            Self::Narrow(counts) => counts.get(slot).copied().map(u64::from),
            Self::Middle(counts) => counts.get(slot).copied().map(u64::from),
            Self::Wide(counts) => counts.get(slot).copied(),
        };
        count.unwrap_or_default()
    }

    fn add(&mut self, slot: usize, count: u64) {
        let fits = match self {
            Self::Narrow(counts) => add(counts, slot, count),
            Self::Middle(counts) => add(counts, slot, count),
            Self::Wide(counts) => {
                if let Some(own) = counts.get_mut(slot) {
                    *own = own.saturating_add(count);
                }
                true
            }
        };
        if !fits {
            self.promote();
            self.add(slot, count);
        }
    }

    #[cold]
    fn promote(&mut self) {
        *self = match self {
            Self::Narrow(counts) => Self::Middle(counts.iter().map(|own| (*own).into()).collect()),
            Self::Middle(counts) => Self::Wide(counts.iter().map(|own| (*own).into()).collect()),
            Self::Wide(counts) => Self::Wide(std::mem::take(counts)),
        };
    }

    fn grow(&mut self, len: usize) {
        match self {
            Self::Narrow(counts) => grow(counts, len),
            Self::Middle(counts) => grow(counts, len),
            Self::Wide(counts) => grow(counts, len),
        }
    }

    fn insert_below(&mut self, below: usize) {
        let len = self.len() + below;
        self.grow(len);
        match self {
            Self::Narrow(counts) => counts.rotate_right(below),
            Self::Middle(counts) => counts.rotate_right(below),
            Self::Wide(counts) => counts.rotate_right(below),
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|slot| self.get(slot) == other.get(slot))
    }
}

impl Eq for Counts {}

/// Adds to a count; whether the sum fits.
fn add<T: Copy + TryFrom<u64>>(counts: &mut [T], slot: usize, count: u64) -> bool
where
    u64: From<T>,
{
    let Some(own) = counts.get_mut(slot) else {
        return true;
    };
    let sum = u64::from(*own).saturating_add(count);
    match T::try_from(sum) {
        Ok(sum) => {
            *own = sum;
            true
        }
        Err(_) => false,
    }
}

/// Appends zeros up to `len`, with room in whole steps.
fn grow<T: Clone + Default>(counts: &mut Vec<T>, len: usize) {
    if len > counts.capacity() {
        counts.reserve_exact(len.next_multiple_of(STEP) - counts.len());
    }
    if len > counts.len() {
        counts.resize(len, T::default());
    }
}

/// Index at [`MAX_SCALE`] of a value above 0. The exponent of a float is the power of two below
/// it; of its fraction the first bits lead to the bucket, or to the one before it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "11 bits of exponent, 5 of fraction"
)]
fn index(value: f64) -> i32 {
    let bits = value.to_bits();
    let fraction = bits & ((1 << FRACTION) - 1);
    let power = (bits >> FRACTION) as i32 - (f64::MAX_EXP - 1);
    let step = (fraction >> (FRACTION - 1 - MAX_SCALE as u32)) as usize;
    let bucket = usize::from(GUIDE[step]);
    let above = i32::from(BOUNDS[bucket + 1] < fraction);
    // An upper bound belongs to its bucket; of those a float can only be a power of two.
    power * BUCKETS as i32 + bucket as i32 + above - i32::from(fraction == 0)
}

/// Lengths and slots are at most a few hundred.
fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// `2^(k / 16)` with 62 bits of fraction, as the product of square roots of 2.
const fn bounds() -> [u64; BUCKETS + 1] {
    const ONE: u128 = 1 << 62;
    let mut bounds = [u64::MAX; BUCKETS + 1];
    let mut bucket = 0;
    while bucket < BUCKETS {
        let mut bound = ONE;
        let mut root = 2 * ONE;
        let mut bit = BUCKETS >> 1;
        while bit > 0 {
            root = (root << 62).isqrt();
            if bucket & bit != 0 {
                bound = (bound * root) >> 62;
            }
            bit >>= 1;
        }
        bounds[bucket] = ((bound - ONE) >> (62 - FRACTION)) as u64;
        bucket += 1;
    }
    bounds
}

const fn guide() -> [u8; 2 * BUCKETS] {
    let bounds = bounds();
    let mut guide = [0; 2 * BUCKETS];
    let mut step = 0;
    let mut bucket = 0_u8;
    while step < guide.len() {
        let start = (step as u64) << (FRACTION - 1 - MAX_SCALE as u32);
        while bounds[bucket as usize + 1] < start {
            bucket += 1;
        }
        guide[step] = bucket;
        step += 1;
    }
    guide
}

#[cfg(test)]
mod tests;
