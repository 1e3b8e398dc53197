//! The allocator: the system's, which is told to back very large blocks with huge pages.
//!
//! The state of an arriving daemon is one block that is written once from end to end. With pages of 4 KiB most of the time
//! of a move would go into their first touch, 256 faults for every MiB.

use std::alloc::{GlobalAlloc, Layout, System};

#[global_allocator]
static ALLOCATOR: LargeBlocks = LargeBlocks;

/// From here on a block surely has a mapping of its own; what shares the heap with others is left alone.
const LARGE: usize = 32 * 1024 * 1024;

struct LargeBlocks;

// SAFETY: every block is the system allocator's, under the same rules; advice about its pages does not change its content.
unsafe impl GlobalAlloc for LargeBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        advised(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

/// The block, after the advice if it is large.
fn advised(block: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && !block.is_null() {
        advise(block, size);
    }
    block
}

#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize) {
    // Whole pages of any size there is.
    const PAGE: usize = 64 * 1024;
    let skipped = block.align_offset(PAGE);
    let whole = size.saturating_sub(skipped) & !(PAGE - 1);
    // SAFETY: the range lies within the block. Where there are no huge pages the call fails and nothing changes.
    unsafe { libc::madvise(block.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}
