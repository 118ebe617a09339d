import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.Scanner;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;

/** Reads records of __consumer_offsets as Kafka's coordinator does, a line each: key and value in hex, "-" for none.
    Prints what Kafka itself would have written for them, and what it understood. */
public class KafkaGroups {
    public static void main(String[] arguments) {
        GroupCoordinatorRecordSerde serde = new GroupCoordinatorRecordSerde();
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] parts = lines.nextLine().split(" ");
            ByteBuffer value = parts[1].equals("-") ? null : ByteBuffer.wrap(HexFormat.of().parseHex(parts[1]));
            CoordinatorRecord record = serde.deserialize(ByteBuffer.wrap(HexFormat.of().parseHex(parts[0])), value);
            byte[] again = serde.serializeValue(record);
            System.out.println(HexFormat.of().formatHex(serde.serializeKey(record)) + " "
                + (again == null ? "-" : HexFormat.of().formatHex(again)) + " " + record.key() + " "
                + (record.value() == null ? "" : record.value().message()));
        }
    }
}
