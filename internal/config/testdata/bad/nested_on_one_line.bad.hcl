target { use "silent" {} }
