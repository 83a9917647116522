package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts call the program itself, so that they never go out of date.
const (
	bash = `_vrcontroller() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null | sed 's/:.*//')" -- "$cur"))
}
complete -o bashdefault -o default -F _vrcontroller vrcontroller
`
	zsh = `#compdef vrcontroller
_vrcontroller() {
  local -a opts
  opts=("${(@f)$(${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
  _describe vrcontroller opts
}
compdef _vrcontroller vrcontroller
`
	fish = `complete -c vrcontroller -f -a '(set -l w (commandline -opc); $w --generate-bash-completion 2>/dev/null | string replace : \t)'
`
)

func completionCommand(p Program) *cli.Command {
	scripts := map[string]string{"bash": bash, "zsh": zsh, "fish": fish}
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script: eval \"$(vrcontroller completion bash)\"",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("want one of bash|zsh|fish")
			}
			script, known := scripts[c.Args().First()]
			if !known {
				return usage("completion for %q is unknown: want bash, zsh or fish", c.Args().First())
			}
			_, err := fmt.Fprint(p.Out, script)
			return err
		},
	}
}
