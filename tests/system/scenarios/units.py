# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed units, as this systemd reads them."""
import glob
import os

from testbed import Scenario, main, run


def own_units():
    """Names of what is installed; of a template, an instance."""
    paths = glob.glob('/usr/lib/systemd/system/loop*.*') + glob.glob('/usr/lib/systemd/system/remote-loops.*')
    return sorted(os.path.basename(path).replace('@.', '@instance.') for path in paths if os.path.isfile(path))


class Units(Scenario):
    def test_systemd_has_nothing_to_say_against_them(self):
        self.assertIn('loopd.service', own_units())
        verified = run('systemd-analyze', 'verify', '--man=no', *own_units(), check=False)
        self.assertEqual((verified.returncode, verified.stdout + verified.stderr), (0, ''))

    def test_the_service_is_exposed_as_little_as_promised(self):
        # In tenths: 1.8 is what a service with its own user can have, as it needs CAP_SYS_ADMIN and devices.
        judged = run('systemd-analyze', 'security', '--offline=true', '--no-pager', '--threshold=18',
                     '/usr/lib/systemd/system/loopd.service', check=False)
        verdict = judged.stdout.rstrip().splitlines()[-1:]
        print('#', *verdict)
        self.assertEqual(judged.returncode, 0, verdict)


main()
