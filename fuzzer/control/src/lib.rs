//! The page that the fuzzer and its QEMU plugin share.
#![no_std]
