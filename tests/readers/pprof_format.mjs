// Reads profiles with pprof-format, prints what it holds: the sum of each column, the default one, and each name; and
// writes them again, beside the file.
// Arguments: the folder node_modules, files.
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { createRequire } from 'node:module'

const [modules, ...files] = process.argv.slice(2)
const { Profile } = createRequire(path.join(modules, 'x.js'))('pprof-format')
for (const file of files) {
  const profile = Profile.decode(zlib.gunzipSync(fs.readFileSync(file)))
  const text = index => profile.stringTable.strings[Number(index)]
  console.log(`file ${file}`)
  profile.sampleType.forEach((type, column) => {
    // It does not tell negative numbers from large ones.
    const value = sample => BigInt.asIntN(64, BigInt(sample.value[column]))
    const total = profile.sample.reduce((sum, sample) => sum + value(sample), 0n)
    console.log(`total ${total} ${text(type.type)}`)
  })
  console.log(`default ${text(profile.defaultSampleType)}`)
  profile.function.forEach(f => console.log(`name ${text(f.name)}`))
  fs.writeFileSync(`${file}.again`, profile.encode())
}
