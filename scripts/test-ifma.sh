#!/usr/bin/env bash
# Runs the tests of the AVX512-IFMA kernels on an emulated processor, for machines that have none.
#
# A shell that a Debian kernel starts in the emulator Bochs runs the library's test program, as `cargo test` builds it. Fails when
# a test fails, when none ran, or when the program did not find AVX512-IFMA. On Debian 12; as root it installs the packages that
# are missing. It has passed with a program of the ring's sources and tests alone (CACHEMIR_TEST_PROGRAM); with the whole
# library's, which boots, it has not been run to the end yet.
#
# The AVX2+FMA kernels and the f64 NTT are left out: Bochs 2.7 computes some fused multiply-adds wrongly (the remainder of a
# product, x · y − fl(x · y), comes out as zero once in a thousand times).
#
# usage: scripts/test-ifma.sh [FILTER...]     (default: ring::kernels ring::radix52)
# CACHEMIR_TEST_PROGRAM names a test program that is built already, CACHEMIR_EMULATION_SECONDS the longest emulation (1800).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
filters=("$@")
[ ${#filters[@]} -gt 0 ] || filters=(ring::kernels ring::radix52)
limit=${CACHEMIR_EMULATION_SECONDS:-1800}

missing=()
for package in bochs bochsbios vgabios isolinux syslinux-common xorriso cpio; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

work=$(mktemp -d)
emulator=
finish() {
    [ -z "$emulator" ] || kill "$emulator" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT

echo "== the test program"
program=${CACHEMIR_TEST_PROGRAM:-}
if [ -z "$program" ]; then
    cargo test --locked --lib --no-run 2>&1 | tee "$work/build.log"
    program=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$work/build.log")
fi
[ -x "$program" ] || { echo "no test program: '$program'" >&2; exit 1; }

echo "== the kernel"
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo "no package linux-image-cloud-amd64: run apt-get update" >&2; exit 1; }
chmod 755 "$work"
(cd "$work" && apt-get download -qq "$kernel" busybox-static && for package in *.deb; do dpkg -x "$package" system; done)

echo "== the disc"
# The program, the libraries it loads where they lie here, and a shell that starts it. The shell waits until the serial port has
# sent everything: when it ends, the kernel panics as it must, reboots by a triple fault, and that stops the emulator.
mkdir -p "$work/files" "$work/disc/isolinux"
strip --strip-debug -o "$work/files/tests" "$program"
cp "$work/system/bin/busybox" "$work/files/busybox"
for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "$work/files$(dirname "$library")"
    cp -L "$library" "$work/files$library"
done
cat > "$work/files/init" << END
#!/busybox sh
CACHEMIR_KERNELS=avx512ifma /tests ${filters[*]} --nocapture --test-threads=1
echo "the tests ended with \$?"
/busybox sleep 2
END
chmod +x "$work/files/init"
(cd "$work/files" && find . | cpio --quiet -o -H newc) > "$work/disc/isolinux/initrd"
cp "$work"/system/boot/vmlinuz-* "$work/disc/isolinux/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disc/isolinux/"
# Bochs 2.7 reports sizes of processor state that Linux 6.1 refuses, so xsavec (321), xsaves (323) and pku (515) are hidden.
# With smep (295), smap (308), fsgsbase (288), umip (514), erms (297), invpcid (298), fsrm (580), rdpid (534), PCIDs, pages of
# 1 GiB and the APIC it crashed early; which of them does it was not looked for. None of them has to do with AVX-512.
cat > "$work/disc/isolinux/isolinux.cfg" << END
default test
prompt 0
timeout 1
label test
  kernel vmlinuz
  append initrd=initrd console=ttyS0 quiet nokaslr mitigations=off nopcid nogbpages noapic cryptomgr.notests clearcpuid=321,323,515,308,295,288,514,297,298,580,534 rdinit=/init reboot=t panic=-1
END
xorriso -as mkisofs -quiet -o "$work/disc.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$work/disc" 2> /dev/null

echo "== the emulator"
cat > "$work/bochsrc" << END
megs: 1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_icelake_u, count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
ata0: enabled=1
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
display_library: rfb, options="timeout=0"
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
panic: action=fatal
log: $work/log
END
# Debian builds Bochs with its debugger, which waits for the command to continue; at the end it finds no further one.
echo continue > "$work/commands"
timeout -k 10 -s INT "$limit" nice -n 19 bochs -q -f "$work/bochsrc" -rc "$work/commands" > "$work/bochs.out" 2>&1 < /dev/null &
emulator=$!
wait "$emulator" || true
emulator=

# What the program printed, without the kernel's lines.
tr -d '\r' < "$work/serial" | grep -v '^ *\[ *[0-9]*\.[0-9]*\]' | tee "$work/output" || true
fail() {
    echo "FAILED: $1" >&2
    tail -n 5 "$work/serial" "$work/log" "$work/bochs.out" >&2
    exit 1
}
grep -q 'kernel sets of this machine: .*avx512ifma' "$work/output" || fail "the program did not report AVX512-IFMA"
grep -q '^test result: ok\. [1-9][0-9]* passed; 0 failed' "$work/output" || fail "no passed test result"
grep -q '^the tests ended with 0$' "$work/output" || fail "the program did not end with success"
echo "kernels on the emulated AVX512-IFMA: ok"
