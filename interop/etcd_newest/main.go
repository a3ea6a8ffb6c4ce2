// etcd's server of whichever release the module beside it asks for: its own main package is in a module that cannot be asked for.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
