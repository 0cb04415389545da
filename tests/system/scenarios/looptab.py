# SPDX-License-Identifier: LGPL-2.1-or-later
"""Declared devices from a cold boot to the shutdown, and mounts of fstab on them."""
import os

from testbed import Client, Scenario, main, run, sysfs, unit

FILES = {
    '/etc/looptab': '''
# name  image                 options
onroot  /srv/on\\040root.img
bound   /bound/image
store   /srv/store.img        x-systemd.device-timeout=30
inner   /store/inner.img
disk    /store/disk.img       partition-scan
deep    /disk/deep.img        read-only
missing /srv/missing.img      nofail
late    /srv/late.img         noauto
remote  /srv/remote.img
bad/name /srv/late.img
self    /self/image           nofail
''',
    '/etc/fstab': '''
/srv/elsewhere                   /bound   none bind
/dev/disk/by-loop-ref/onroot     /onroot  ext4
/dev/disk/by-loop-ref/bound      /onbound ext4
/dev/disk/by-loop-ref/store      /store   ext4
/dev/disk/by-loop-ref/inner      /inner   ext4
/dev/disk/by-loop-ref/disk-part1 /disk    ext4
/dev/disk/by-loop-ref/deep       /deep    ext4 ro
/dev/disk/by-loop-ref/missing    /missing ext4 nofail
/dev/disk/by-loop-ref/late       /late    ext4 noauto
/dev/disk/by-loop-ref/remote     /remote  ext4 _netdev
/dev/disk/by-loop-ref/self       /self    ext4 nofail,x-systemd.device-timeout=1
''',
    '/etc/systemd/system/loop-image@srv-free.img.service.d/options.conf':
        '[Service]\nEnvironment=LOOP_OPTIONS=read-only,reference=free\n',
}

# A file system for each, with a file that says which one it is.
IMAGES = '''
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make() { # NAME SIZE: from the directory of that name, which may have images in it
    mkdir -p "$work/$1"
    echo "$1" >"$work/$1/name"
    truncate --size="$2" "$work/$1.img"
    mkfs.ext4 -q -d "$work/$1" "$work/$1.img"
}
mkdir -p srv/elsewhere "$work/store" "$work/disk"
for name in onroot bound inner deep late remote free; do make "$name" 2M; done
mv "$work/deep.img" "$work/disk/deep.img"
make disk 8M
truncate --size=10M "$work/store/disk.img"
echo 'start=1MiB, size=8MiB' | sfdisk --quiet --label=gpt "$work/store/disk.img"
dd if="$work/disk.img" of="$work/store/disk.img" bs=1M seek=1 conv=notrunc status=none
mv "$work/inner.img" "$work/store/inner.img"
make store 32M
mv "$work/onroot.img" "srv/on root.img"
mv "$work/bound.img" srv/elsewhere/image
for name in store late remote free; do mv "$work/$name.img" srv/; done
'''

MOUNTED = {'/onroot': 'onroot', '/onbound': 'bound', '/store': 'store', '/inner': 'inner', '/disk': 'disk', '/deep': 'deep',
           '/remote': 'remote'}


def name_in(mount_point):
    """What the file system there says that it is."""
    try:
        with open(f'{mount_point}/name', encoding='utf-8') as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def device_of(reference):
    """The node that the link leads to."""
    link = f'/dev/disk/by-loop-ref/{reference}'
    return os.path.realpath(link) if os.path.exists(link) else None


def device_unit(reference):
    return run('systemd-escape', '--path', '--suffix=device', f'/dev/disk/by-loop-ref/{reference}')


class Boot(Scenario):
    def test_every_mount_on_a_declared_device_is_there(self):
        self.assertEqual({point: name_in(point) for point in MOUNTED}, MOUNTED)

    def test_each_line_has_its_unit_and_the_bad_one_keeps_no_other_out(self):
        for name in ('onroot', 'bound', 'store', 'inner', 'disk', 'deep', 'remote'):
            self.assertEqual(unit(f'loop@{name}.service', 'ActiveState'), 'active', name)

    def test_nothing_waits_for_an_image_that_is_missing(self):
        self.assertEqual(unit('loop@missing.service', 'ActiveState'), 'failed')
        self.assertNotEqual(unit('missing.mount', 'ActiveState'), 'active')
        # It was given up when its service had failed: else it would be waited for now, for as long as a device
        # may take to come. The journal is no witness: of the first moments it has not all that systemd says.
        self.assertNotIn(device_unit('missing'), run('systemctl', 'list-jobs', '--plain', '--no-legend'))

    def test_nothing_else_has_failed(self):
        failed = run('systemctl', 'list-units', '--failed', '--plain', '--no-legend').splitlines()
        self.assertEqual([line.split()[0] for line in failed], ['loop@missing.service'])

    def test_a_line_that_waits_for_itself_is_left_out(self):
        self.assertEqual(unit('loop@self.service', 'SourcePath'), '')

    def test_the_options_of_a_line_hold(self):
        self.assertEqual(sysfs(device_of('deep'), 'ro'), '1')
        self.assertEqual(sysfs(device_of('store'), 'ro'), '0')
        self.assertEqual(unit(device_unit('store'), 'JobRunningTimeoutUSec'), '30s')

    def test_what_fstab_mounts_with_the_network_is_attached_with_it(self):
        self.assertIn('loop@remote.service', unit('remote-loops.target', 'Requires'))
        self.assertNotIn('loop@remote.service', unit('loops.target', 'Requires'))
        self.assertIn('remote-fs-pre.target', unit('loop@remote.service', 'After'))

    def test_the_check_finds_what_is_wrong(self):
        report = run('loopctl', 'tab', 'check', check=False)
        self.assertEqual(report.returncode, 1)
        self.assertIn('missing.img: No such file', report.stdout)
        self.assertIn("name 'bad/name'", report.stdout)
        self.assertIn('lies below its own mount', report.stdout)


class Operation(Scenario):
    def test_what_is_not_automatic_comes_with_its_mount(self):
        self.assertIsNone(device_of('late'))
        run('systemctl', 'start', 'late.mount')
        self.assertEqual(name_in('/late'), 'late')
        run('systemctl', 'stop', 'loop@late.service')
        self.assertIsNone(name_in('/late'))
        self.assertIsNone(device_of('late'))

    def test_stopping_a_line_unmounts_first_and_starting_the_mount_attaches_again(self):
        device = device_of('disk')
        run('systemctl', 'stop', 'loop@disk.service')
        self.assertIsNone(name_in('/deep'))
        self.assertIsNone(name_in('/disk'))
        self.assertFalse(os.path.exists(device))
        run('systemctl', 'start', 'deep.mount')
        self.assertEqual(name_in('/disk'), 'disk')
        self.assertEqual(name_in('/deep'), 'deep')

    def test_a_reload_changes_nothing(self):
        before = device_of('store')
        run('systemctl', 'daemon-reload')
        self.assertEqual(name_in('/store'), 'store')
        self.assertEqual(device_of('store'), before)

    def test_a_start_beside_the_units_attaches_nothing_new(self):
        before = os.listdir('/sys/block')
        run('/usr/libexec/loopd-attach', 'attach', 'store', '/srv/store.img')
        self.assertEqual(os.listdir('/sys/block'), before)

    def test_an_image_has_a_unit_by_its_path(self):
        run('systemctl', 'start', 'loop-image@srv-free.img.service')
        self.assertEqual(sysfs(device_of('free'), 'ro'), '1')
        run('systemctl', 'stop', 'loop-image@srv-free.img.service')
        self.assertIsNone(device_of('free'))

    def test_the_service_publishes_what_is_declared(self):
        with Client() as client:
            references = [reference for _, _, _, reference in client.manager('ListDevices')]
            path = client.manager('GetDevice', 's', '/dev/disk/by-loop-ref/disk')
            self.assertEqual(client.get(path, 'OwnerUID'), 0)
            self.assertEqual(len(client.get(path, 'Partitions')), 1)
        self.assertLessEqual({'onroot', 'bound', 'store', 'inner', 'disk', 'deep'}, set(references))


main()
