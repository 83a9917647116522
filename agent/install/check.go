package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vragent/vragent/conf"
)

// Check says whether the runtime of this node uses the plugin.
func Check(binDir, confDir string) (ok bool, sentence, fix string) {
	const again = "vragent install puts it there"
	first, err := First(confDir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s does not exist, or is not to be seen from here", confDir)
		}
		return false, err.Error(), again
	}
	file := filepath.Join(confDir, first)
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err.Error(), "run as root"
	}
	if err := conf.CheckCNIList(file, text); err != nil {
		return false, fmt.Sprintf("the runtime takes %s, the first by name, which is not ours: %v", file, err), "remove it, or give ours a name that sorts before it"
	}
	plugin := filepath.Join(binDir, conf.CNIType)
	switch info, err := os.Stat(plugin); {
	case err != nil:
		return false, "the conflist is there, the plugin is not: " + err.Error(), again
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return false, plugin + " is not a program", again
	}
	return true, fmt.Sprintf("%s is the first, %s is there", file, plugin), ""
}
